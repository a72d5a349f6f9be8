"""Open whatever the user names so that its tensors can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shipway.artifact import Artifact
from shipway.engines.base import EngineOptions
from shipway.engines.opening import choose_target, prepare_model
from shipway.engines.registry import engine_names, find_engine
from shipway.engines.tapping import DEFAULT_TAP_BYTES, Tappable, TapSession
from shipway.engines.target import Target
from shipway.errors import EngineError
from shipway.progress import SILENT, Progress
from shipway.source.loading import SourceRequest

__all__ = ["TappedModel", "open_tapped"]


@dataclass(frozen=True, slots=True)
class TappedModel:
    """A session whose tensors can be read, and what it was opened from.

    Args:
        session: The session.
        target: Engine and precision.
        artifact: What was loaded: in a temporary folder unless the user named it.
        path: The file that the user named.
    """

    session: TapSession
    target: Target
    artifact: Artifact
    path: Path

    def __str__(self) -> str:
        """Name the engine and the file."""
        return f"{self.target} ({self.path.name})"


@contextlib.contextmanager
def open_tapped(
    request: SourceRequest,
    target: Target | None,
    options: EngineOptions,
    *,
    max_bytes: int = DEFAULT_TAP_BYTES,
    progress: Progress = SILENT,
) -> Iterator[TappedModel]:
    """Open a session whose tensors can be read, for the length of the block.

    Args:
        request: A compiled artifact, or any source; see `shipway.engines.opening.open_model`.
        target: Engine and precision; None chooses as `open_model` does.
        options: Threads, device and the like; the target decides the precision.
        max_bytes: What a run may hold in memory beyond the model itself.
        progress: Told of the slow steps.

    Raises:
        EngineError: The tensors of this engine cannot be read. Nothing was compiled then.
        ShipwayError: Whatever loading, exporting or compiling raises.
    """
    chosen = choose_target(request, target)
    _require_tappable(chosen.engine)
    with prepare_model(request, chosen, options, progress=progress) as prepared:
        engine = prepared.engine
        assert isinstance(engine, Tappable)  # noqa: S101 -- _require_tappable has seen to it
        progress.start(f"prepare the taps of {chosen}")
        session = engine.open_taps(prepared.artifact, prepared.options, max_bytes=max_bytes)
        with contextlib.closing(session):
            yield TappedModel(session, chosen, prepared.artifact, Path(request.reference))


def _require_tappable(name: str) -> None:
    if isinstance(find_engine(name), Tappable):
        return
    others = [one for one in engine_names() if isinstance(find_engine(one), Tappable)]
    raise EngineError(
        f"The tensors inside {name} cannot be read; those of {', '.join(others) or 'none'} can.",
        hint="shipway compare GOLDEN MODEL --bisect finds the first wrong operator from outside.",
    )
