"""Reading the tensors inside a model that OpenVINO runs.

A tensor is read by making it an output and compiling the model again. What is made an output is the
last operator of a node of the execution, in the precision it is computed in, so that OpenVINO fuses
and rounds as it does without. Whether it did is checked: every run gives the outputs of the model,
too, and they must be those of the untapped model bit for bit. Where they are not, the tensors are
halved until those that change the result are left; each of these is read in a run of its own, and
said to be perturbed. Where an addition is fused into a convolution in bfloat16, for one, its operand
cannot be read without a rounding that is not there otherwise.

Each compilation costs time, so there are limits: at most 32 runs to keep within `max_bytes` (beyond
that, the runs hold more), and at most 64 compilations in the life of a session to halve tensors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.closing import Closing
from shipway.engines.openvino.execution import read_execution
from shipway.engines.openvino.runtime import NOISE, TITLE
from shipway.engines.openvino.session import OpenVinoSession
from shipway.engines.openvino.splitting import Separation, chunks_of, separate
from shipway.engines.openvino.tapped_models import TappedModels
from shipway.engines.requests import engine_errors
from shipway.engines.tapping import AS_WITHOUT, Tap, TapCheck, TappedTensor
from shipway.errors import EngineError, TensorError
from shipway.tensors import Tensors

if TYPE_CHECKING:
    from openvino import InferRequest

__all__ = ["OpenVinoTapSession"]

_MOST_CHUNKS = 32
_MOST_COMPILATIONS = 64
_UNSTABLE = "the outputs change from run to run even when nothing is read"
_CHANGES = {
    "after": AS_WITHOUT,
    "at": "all before it is executed as without, its own operator is not",
    "before": "what comes before it is executed in another way, too",
}
_LOG = logging.getLogger("shipway.engines")


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A finished run that read some tensors; `change` says how its outputs differ, "" if not."""

    names: tuple[str, ...]
    request: InferRequest
    change: str


class OpenVinoTapSession(Closing):
    """A loaded artifact whose tensors can be read; see `shipway.engines.tapping.TapSession`."""

    def __init__(
        self,
        session: OpenVinoSession,
        device: str,
        config: dict[str, str],
        path: Path,
        max_bytes: int,
    ) -> None:
        """Read the model once more, and what is executed of it.

        Args:
            session: The artifact, loaded; it is closed with this session.
            device: For which device it was compiled.
            config: With which properties.
            path: The model file.
            max_bytes: What the tensors of one run may hold in memory.

        Raises:
            EngineError: The model cannot be read, or the device does not say what it executes.
        """
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.effective = session.effective
        self.check: TapCheck | None = None
        self._session: OpenVinoSession | None = session
        with engine_errors(f"{TITLE} cannot show what it executes of {path}", NOISE):
            model = session.core.read_model(str(path))
            execution = read_execution(model, session.compiled, self.inputs, self.outputs)
        self._execution = execution
        self.taps: tuple[Tap, ...] = execution.taps
        self.untapped = dict(execution.untapped)
        self._models = TappedModels(
            session.core, model, device, config, execution.places, max_bytes
        )
        self._max_bytes = max_bytes
        self._splits: dict[tuple[str, ...], Separation] = {}
        self._perturbing: set[str] = set()
        self._attempts = _MOST_COMPILATIONS

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        """Run and yield the tensors in the order of execution; see `TapSession.stream`.

        The model runs once untapped, and once for each group of tensors that are read together.

        Raises:
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape; or no tap has
                one of the names.
            EngineError: OpenVINO failed, or the session is closed.
        """
        session = self._open()
        wanted = self._wanted(names)
        self.check = None
        golden = session.run(feeds)
        sizes = self._sizes(session, feeds)
        return self._stream(session, feeds, golden, wanted, sizes)

    def _stream(
        self,
        session: OpenVinoSession,
        feeds: Tensors,
        golden: Tensors,
        wanted: Sequence[Tap],
        sizes: dict[str, int],
    ) -> Iterator[TappedTensor]:
        values = [tap.name for tap in wanted if tap.kind == "value"]
        chunks = chunks_of(values, sizes, self._max_bytes, _MOST_CHUNKS)
        self._say_more(chunks, sizes)
        waiting = iter(chunks)
        runs: dict[str, _Run] = {}
        perturbed: dict[str, str] = {}
        for tap in wanted:
            if tap.kind != "value":
                source = feeds if tap.kind == "input" else golden
                yield TappedTensor(tap, np.array(source[tap.name]))
                continue
            if tap.name not in runs:
                runs = {}  # gives the memory of the last chunk back before the next one runs
                done = self._run_chunk(session, next(waiting), feeds, golden)
                runs = {name: one for one in done for name in one.names}
                done = []
            if runs[tap.name].change:
                perturbed[tap.name] = self._reason(runs[tap.name])
            yield TappedTensor(tap, self._read(runs[tap.name], tap.name))
        self.check = TapCheck(not perturbed, perturbed)

    def _read(self, run: _Run, name: str) -> NDArray[Any]:
        return self._models.read(run.request, run.names.index(name), name)

    def _sizes(self, session: OpenVinoSession, feeds: Tensors) -> dict[str, int]:
        with engine_errors(f"{TITLE} cannot fit the model to these inputs", NOISE):
            return self._models.sizes([value.shape for value in session.in_order(feeds)])

    def _wanted(self, names: Collection[str] | None) -> list[Tap]:
        if names is None:
            return list(self.taps)
        unknown = sorted(set(names) - {tap.name for tap in self.taps})
        if unknown:
            raise TensorError(
                f"{TITLE} shows no tensor '{unknown[0]}' of this model.",
                hint=self._why_hidden(unknown[0]),
            )
        return [tap for tap in self.taps if tap.name in set(names)]

    def _why_hidden(self, name: str) -> str:
        for tap in self.taps:
            if name in tap.covers:
                return f"Its operator is computed inside the one that ends in '{tap.name}'."
        reason = self.untapped.get(name, "Shown are those in `taps`")
        return f"{reason[0].upper()}{reason[1:]}."

    def _run_chunk(
        self, session: OpenVinoSession, names: tuple[str, ...], feeds: Tensors, golden: Tensors
    ) -> list[_Run]:
        """Run until every tensor of a chunk is read, in as few runs as leave the outputs alone."""
        known = self._splits.get(names) or self._guess(names)
        runs = [self._run(session, group, feeds, golden) for group in known.groups]
        changed = [run.names for run in runs if run.change]
        open_question = any(len(group) > 1 and group in known.together for group in changed)
        if not changed or (names in self._splits and not open_question):
            return runs
        if not _same(golden, session.run(feeds)):
            return [replace(run, change=_UNSTABLE) for run in runs]
        if not (open_question and self._attempts):
            return runs
        del runs
        found, self._attempts = separate(
            names,
            lambda group: not self._run(session, group, feeds, golden).change,
            self._attempts,
            [name for name in names if self._is_suspect(name)],
        )
        self._splits[names] = found
        self._perturbing.update(found.perturbing)
        return [self._run(session, group, feeds, golden) for group in found.groups]

    def _guess(self, names: tuple[str, ...]) -> Separation:
        """Say how to read tensors before they were read: all at once, but for those known better."""
        others = tuple(name for name in names if name not in self._perturbing)
        alone = [name for name in names if name in self._perturbing]
        return Separation([others] if others else [], alone)

    def _is_suspect(self, name: str) -> bool:
        return name in self._perturbing or self._execution.places[name].is_suspect

    def _reason(self, run: _Run) -> str:
        """Say what reading changes; and whether what is read comes before that."""
        if len(run.names) > 1 or run.change == _UNSTABLE:
            return run.change
        plain, tapped = self._open().compiled, self._models.compiled(run.names)
        where = self._execution.first_change(plain, tapped, run.names[0])
        return f"{run.change}; {_CHANGES[where]}"

    def _run(
        self, session: OpenVinoSession, names: Sequence[str], feeds: Tensors, golden: Tensors
    ) -> _Run:
        group = tuple(names)
        with engine_errors(f"{TITLE} failed while running with tensors made outputs", NOISE):
            request = self._models.compiled(group).create_infer_request()
            session.infer(request, feeds)
            return _Run(group, request, _change(golden, session.results(request), len(group)))

    def _say_more(self, chunks: Sequence[tuple[str, ...]], sizes: dict[str, int]) -> None:
        largest = max((sum(sizes[name] for name in chunk) for chunk in chunks), default=0)
        if largest > self._max_bytes:
            _LOG.warning(
                "%s holds up to %d MiB of tensors at once instead of %d: a tensor is as large, or "
                "more than %d runs would be needed.",
                TITLE, largest >> 20, self._max_bytes >> 20, _MOST_CHUNKS,
            )  # fmt: skip

    def _open(self) -> OpenVinoSession:
        if self._session is None:
            raise EngineError("This session is closed.", hint="Load the artifact again.")
        return self._session

    def close(self) -> None:
        """Let go of the models; a second call does nothing."""
        if self._session is not None:
            self._models.clear()
            self._session.close()
            self._session = None


def _same(golden: Tensors, actual: Tensors) -> bool:
    return all(_bits(value) == _bits(actual[name]) for name, value in golden.items())


def _bits(value: NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    return value.shape, value.tobytes()


def _change(golden: Tensors, actual: Tensors, count: int) -> str:
    """Say which output differs, and by how much; "" where none does."""
    for name, value in golden.items():
        other = actual[name]
        if _bits(value) != _bits(other):
            what = "this tensor" if count == 1 else f"it together with {count - 1} others"
            return f"reading {what} changes output '{name}' ({_difference(value, other)})"
    return ""


def _difference(golden: NDArray[Any], actual: NDArray[Any]) -> str:
    if golden.shape != actual.shape:
        return f"shape {list(actual.shape)} instead of {list(golden.shape)}"
    wide = golden.astype(np.float64)
    error = math.sqrt(float(np.square(actual.astype(np.float64) - wide).sum()))
    norm = math.sqrt(float(np.square(wide).sum()))
    return f"relative L2 {error / norm:.1e}" if norm and math.isfinite(error) else "other values"
