"""The tensors of one execution, put aside for a comparison: read off a session, or from a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from shipway.engines.tapping import Tap, TapSession
from shipway.progress import SILENT, Progress
from shipway.tensors import Tensors
from shipway.trace.golden import Golden
from shipway.trace.reading import Trace
from shipway.trace.records import InputRecord
from shipway.trace.shelf import Shelf
from shipway.trace.statistics import Statistics, summarize

__all__ = [
    "CUT_SHORT",
    "Execution",
    "describe_inputs",
    "input_problems",
    "read_golden",
    "read_session",
    "read_trace",
]


CUT_SHORT = "not in the trace, which was cut short: shipway trace --resume goes on with it"
"""Why a tensor of golden was not compared with an unfinished trace."""


def _nothing(_: str) -> None:
    return None


@dataclass(slots=True, eq=False)
class Execution:
    """One execution.

    Args:
        title: What it is, for a reader.
        taps: What there is, in the order of execution.
        statistics: The numbers of each tensor, by name.
        facts: A few numbers of those that another tool kept no more of; see `TensorRecord`.
        shapes: Sizes of each, by name.
        dtypes: Element type of each, by name.
        read: Returns the values of a tensor; None where they were not kept.
        inputs: The inputs it ran on; empty where they are not known.
        untapped: What was computed and could not be shown, with the reason.
        perturbed: Tensors that could only be read by changing the result, with the reason.
        identical: Reading left the outputs as they were; None where nobody could check.
        complete: False where the trace broke off.
    """

    title: str
    taps: list[Tap] = field(default_factory=list)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    facts: dict[str, Mapping[str, float]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    read: Callable[[str], NDArray[Any] | None] = _nothing
    inputs: Mapping[str, InputRecord] = field(default_factory=dict)
    untapped: Mapping[str, str] = field(default_factory=dict)
    perturbed: Mapping[str, str] = field(default_factory=dict)
    identical: bool | None = None
    complete: bool = True

    def add(self, tap: Tap, value: NDArray[Any]) -> None:
        """Take in what is known of a tensor; its values are kept elsewhere."""
        self.taps.append(tap)
        self.statistics[tap.name] = summarize(value)
        self.shapes[tap.name] = value.shape
        self.dtypes[tap.name] = value.dtype.name


def read_session(
    session: TapSession, feeds: Tensors, shelf: Shelf, title: str, progress: Progress = SILENT
) -> Execution:
    """Run a session and put its tensors on a shelf.

    Args:
        session: What to run.
        feeds: Every input by name.
        shelf: Where the values go.
        title: What it is, for a reader.
        progress: Told of every tensor.

    Raises:
        EngineError: The engine failed.
        TensorError: A feed does not fit.
        OutputError: The disk is full.
    """
    progress.start(f"read the tensors of {title}", len(session.taps))
    execution = Execution(title, read=shelf.get, inputs=describe_inputs(feeds))
    for tensor in session.stream(feeds):
        execution.add(tensor.tap, tensor.value)
        shelf.put(tensor.tap.name, tensor.value)
        progress.advance()
    execution.untapped = dict(session.untapped)
    if session.check is not None:
        execution.identical = session.check.identical
        execution.perturbed = session.check.perturbed
    return execution


def read_golden(
    golden: Golden, feeds: Tensors, shelf: Shelf, progress: Progress = SILENT
) -> Execution:
    """Run a golden and put its tensors on a shelf; arguments and errors are those of `read_session`."""
    progress.start(f"run {golden.title}", len(golden.taps))
    execution = Execution(golden.title, read=shelf.get, inputs=describe_inputs(feeds))
    for tensor in golden.walk(feeds, _nothing):
        execution.add(tensor.tap, tensor.value)
        shelf.put(tensor.tap.name, tensor.value)
        progress.advance()
    return execution


def read_trace(trace: Trace, title: str) -> Execution:
    """Return the execution that a trace holds; values are read when they are needed.

    Args:
        trace: The trace; it may have broken off, or hold statistics only.
        title: What to call it.

    Raises:
        TensorError: A file of it is absent or truncated.
    """
    header = trace.header
    execution = Execution(title, inputs=header.inputs, untapped=dict(header.untapped))
    execution.complete = header.complete
    kept = set()
    for record in trace.records:
        execution.taps.append(record.tap)
        execution.shapes[record.name] = record.shape
        execution.dtypes[record.name] = record.dtype
        statistics = record.statistics
        if statistics is None and record.file is not None:
            statistics = summarize(trace.read(record.name))
        if statistics is not None:
            execution.statistics[record.name] = statistics
        elif record.facts:
            execution.facts[record.name] = record.facts
        if record.file is not None:
            kept.add(record.name)
    execution.read = lambda name: trace.read(name) if name in kept else None
    if header.check is not None:
        execution.identical = header.check.identical
        execution.perturbed = header.check.perturbed
    return execution


def describe_inputs(feeds: Tensors) -> dict[str, InputRecord]:
    """Return what a run is known by: dtype, shape and CRC of each input."""
    return {
        name: InputRecord(value.dtype.name, value.shape, summarize(value).crc)
        for name, value in feeds.items()
    }


def input_problems(golden: Execution, actual: Execution) -> tuple[str, ...]:
    """Say how the inputs of two executions differ; nothing where they are equal or not known."""
    return tuple(_differences(golden, actual))


def _differences(golden: Execution, actual: Execution) -> Iterator[str]:
    if not golden.inputs or not actual.inputs:
        return
    if set(golden.inputs) != set(actual.inputs) and len(golden.inputs) == len(actual.inputs):
        # A module calls its inputs otherwise than the model exported from it: by position.
        for (name, one), other in zip(golden.inputs.items(), actual.inputs.values(), strict=True):
            yield from _difference(name, one, other, (golden.title, actual.title))
        return
    for name in dict.fromkeys((*golden.inputs, *actual.inputs)):
        pair = golden.inputs.get(name), actual.inputs.get(name)
        if pair[0] is None or pair[1] is None:
            yield f"'{name}' is an input of {(golden, actual)[pair[0] is None].title} only"
        else:
            yield from _difference(name, pair[0], pair[1], (golden.title, actual.title))


def _difference(
    name: str, golden: InputRecord, actual: InputRecord, titles: tuple[str, str]
) -> Iterator[str]:
    if golden != actual:
        yield (
            f"'{name}' differs: {_describe(golden)} in {titles[0]}, {_describe(actual)} in "
            f"{titles[1]}"
        )


def _describe(one: InputRecord) -> str:
    return f"{one.dtype}{list(one.shape)} (CRC {one.crc:08x})"
