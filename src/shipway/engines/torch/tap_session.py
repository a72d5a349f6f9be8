"""Every tensor of a program, read as it is computed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.closing import Closing
from shipway.engines.tapping import Tap, TapCheck, TappedTensor
from shipway.engines.torch.flat_program import FlatProgram
from shipway.engines.torch.walking import SEED, own_array, walk
from shipway.errors import EngineError, UsageError
from shipway.export.example import keep_state
from shipway.tensors import Tensors, TensorSpec

if TYPE_CHECKING:
    from shipway.engines.torch.session import TorchSession

__all__ = ["TorchTapSession", "require_taps"]


class TorchTapSession(Closing):
    """A program run node by node: one tensor more in memory than in a plain run."""

    def __init__(self, session: TorchSession, flat: FlatProgram) -> None:
        """Keep both forms of the program.

        Args:
            session: The program called as a whole, which the taps are checked against.
            flat: The program node by node.
        """
        self.inputs: tuple[TensorSpec, ...] = session.inputs
        self.outputs: tuple[TensorSpec, ...] = session.outputs
        self.effective: Mapping[str, str] = session.effective
        self.taps: tuple[Tap, ...] = flat.taps
        self.untapped: Mapping[str, str] = flat.untapped
        self.check: TapCheck | None = None
        self._session = session
        self._flat: FlatProgram | None = flat

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        """Run and yield the tensors in the order of execution; see `TapSession.stream`.

        Random operators draw the same numbers in every run.

        Raises:
            UsageError: `names` has one that is no tap.
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape.
            EngineError: An operator failed, or the session is closed.
        """
        flat = self._flat
        if flat is None:
            raise EngineError("This session is closed.", hint="Load the artifact again.")
        require_taps(names, flat.taps)
        self.check = None
        plain = _digests(self._run_plain(feeds))
        taps = {tap.name: tap for tap in flat.taps}
        readers: dict[str, list[str]] = {}
        for output, name in flat.outputs.items():
            readers.setdefault(name, []).append(output)
        differing: list[str] = []
        for step in walk(flat, feeds, lambda _step: None):
            tap = taps[step.node.name]
            wanted = names is None or tap.name in names
            if not wanted and tap.name not in readers:
                continue
            value = own_array(step.value)
            if tap.name in readers:
                digest = _digest(value)
                differing += [name for name in readers[tap.name] if plain[name] != digest]
            if wanted:
                yield TappedTensor(tap, value)
        reason = f"outputs differ from those of the plain run: {', '.join(differing)}"
        perturbed = {tap.name: reason for tap in flat.taps if tap.kind != "input"}
        self.check = TapCheck(not differing, perturbed if differing else {})

    def _run_plain(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        import torch

        # The walk starts from the state of the program, so a run of it as a whole must as well.
        with keep_state(self._session.state), torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return self._session.run(feeds)

    def close(self) -> None:
        """Let go of the program."""
        self._flat = None
        self._session.close()


def require_taps(names: Collection[str] | None, taps: Collection[Tap]) -> None:
    """Refuse names that are no taps.

    Raises:
        UsageError: With the first of them.
    """
    known = {tap.name for tap in taps}
    for name in names or ():
        if name not in known:
            raise UsageError(
                f"There is no tensor '{name}' in this program.",
                hint="shipway trace MODEL lists them.",
            )


def _digests(outputs: Mapping[str, NDArray[Any]]) -> dict[str, tuple[Any, ...]]:
    return {name: _digest(value) for name, value in outputs.items()}


def _digest(value: NDArray[Any]) -> tuple[Any, ...]:
    import hashlib

    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return value.shape, value.dtype.name, hashlib.blake2b(data.data).digest()
