"""The tensors of a diagnosis as rows, and which of many are worth showing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shipway.compare.diagnosis import Diagnosis, TensorComparison
from shipway.compare.results import Metrics
from shipway.report.diagnosis_text import write_error, write_multiple, write_spec
from shipway.tensors import dtype_named

__all__ = ["COLUMNS", "Gap", "Mark", "Order", "TensorRow", "make_row", "select_rows"]

Order = Literal["execution", "worst"]
Mark = Literal["FAULT", "over", "ok"]

COLUMNS = (
    "order",
    "mark",
    "operator",
    "tensor",
    "engine",
    "type",
    "local",
    "limit",
    "accumulated",
    "channel",
    "gain",
    "notes",
)
"""Titles of the cells of a row, in their order."""

_NEIGHBOURS = 2
_WORST_WITHIN = 5
"""Tensors within their limits shown when the worst come first."""


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor, with every cell written out.

    Args:
        order: Position in golden's order of execution.
        mark: "FAULT" for a culprit, "over" beyond a limit and explained, "ok" within.
        op: Golden's operator.
        name: Golden's name.
        engine: The engine's operator, and its name for the tensor where that is another.
        spec: Dtype and shape.
        local: Local relative L2, or how many elements differ; "-" where there is none.
        multiple: Severity, as a multiple of the limit.
        accumulated: The same as `local`, against the pure golden.
        channel: Worst channel of the judged error, and where it is.
        gain: Gain of the judged error.
        notes: How it was matched unless by its plain name, why it is no fault, what disturbed it.
    """

    order: int
    mark: Mark
    op: str
    name: str
    engine: str
    spec: str
    local: str
    multiple: str
    accumulated: str
    channel: str
    gain: str
    notes: str

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands under each of `COLUMNS`."""
        measured = (self.local, self.multiple, self.accumulated, self.channel, self.gain)
        named = (self.op, self.name, self.engine, self.spec)
        return (str(self.order), self.mark, *named, *measured, self.notes)


@dataclass(frozen=True, slots=True)
class Gap:
    """Tensors between two rows that are not shown.

    Args:
        count: How many.
        over: How many of them are beyond a limit.
    """

    count: int
    over: int

    def __str__(self) -> str:
        noun = "tensor" if self.count == 1 else "tensors"
        if not self.over:
            return f"... {self.count:,} {noun} within limits"
        return f"... {self.count:,} {noun}, {self.over:,} beyond limits"


def make_row(tensor: TensorComparison, *, culprit: bool) -> TensorRow:
    """Write the cells of one tensor.

    Args:
        tensor: The tensor.
        culprit: It is the tensor of a culprit.
    """
    judged = tensor.judged
    place = f"{judged.worst_channel_index}@{judged.worst_channel_axis}"
    channel = "-"
    if judged.worst_channel is not None:
        channel = f"{write_error(judged.worst_channel)} {place if judged.worst_channel else ''}"
    other_name = "" if tensor.actual == tensor.golden else tensor.actual
    return TensorRow(
        order=tensor.order,
        mark="FAULT" if culprit else "ok" if tensor.verdict.passed else "over",
        op=tensor.golden_op or "-",
        name=tensor.golden,
        engine=" ".join(filter(None, (tensor.op, other_name))) or "-",
        spec=write_spec(tensor),
        local=_figure(tensor.local, tensor.dtype),
        multiple=write_multiple(tensor.severity),
        accumulated=_figure(tensor.accumulated, tensor.dtype),
        channel=channel.rstrip(),
        gain="-" if judged.gain is None else f"{judged.gain:.6f}",
        notes="; ".join(_notes(tensor)),
    )


def _figure(metrics: Metrics | None, dtype: str) -> str:
    if metrics is None:
        return "-"
    if not dtype_named(dtype).is_float:
        return f"{metrics.mismatches} differ" if metrics.mismatches else "equal"
    return write_error(metrics.relative_l2)


def _notes(tensor: TensorComparison) -> Iterator[str]:
    match = tensor.match
    if match.method != "name":
        yield f"by {match.method} ({match.confidence:.2g})" + (match.note and f": {match.note}")
    elif match.note:
        yield match.note
    if tensor.judged.nonfinite_mismatches:
        yield f"{tensor.judged.nonfinite_mismatches} NaN or Inf on one side"
    if tensor.layout:
        yield f"stored as {tensor.layout}"
    if tensor.explained:
        yield tensor.explained
    if tensor.perturbed:
        yield f"perturbed: {tensor.perturbed}"
    if tensor.is_output:
        yield "output"


def select_rows(
    diagnosis: Diagnosis, *, order: Order = "execution", limit: int | None = None
) -> list[TensorRow | Gap]:
    """Return the rows to show, with a gap wherever tensors between them are left out.

    Args:
        diagnosis: What was found.
        order: "execution": as golden computes them; "worst": largest multiple of the limit first.
        limit: Rows at most: the culprits with two neighbours each way, and what is beyond its
            limits, the worst of it where that is more. None: all rows.
    """
    culprits = {culprit.tensor.pair for culprit in diagnosis.culprits}
    tensors = diagnosis.tensors
    places: Sequence[int] = range(len(tensors))
    if order == "worst":
        places = sorted(places, key=lambda place: _rank(tensors[place], culprits))
    shown = set(places) if limit is None else _window(tensors, culprits, places, order, limit)
    rows: list[TensorRow | Gap] = []
    hidden: list[TensorComparison] = []
    for place in places:
        tensor = tensors[place]
        if place not in shown:
            hidden.append(tensor)
            continue
        rows += _gap(hidden)
        hidden = []
        rows.append(make_row(tensor, culprit=tensor.pair in culprits))
    return rows + _gap(hidden)


def _rank(
    tensor: TensorComparison, culprits: set[tuple[str, str]]
) -> tuple[bool, bool, float, int]:
    """Order by: a culprit, beyond a limit, how far, and what is computed first."""
    is_culprit = tensor.pair in culprits
    return (not is_culprit, tensor.verdict.passed, -tensor.severity, tensor.order)


def _window(
    tensors: Sequence[TensorComparison],
    culprits: set[tuple[str, str]],
    places: Sequence[int],
    order: Order,
    limit: int,
) -> set[int]:
    """Return the places shown: culprits first, then their neighbours, then the worst."""
    faults = [place for place in places if tensors[place].pair in culprits]
    ranked = sorted(places, key=lambda place: _rank(tensors[place], culprits))
    over = [place for place in ranked if not tensors[place].verdict.passed]
    wanted = [*faults]
    if order == "execution":
        reach = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
        around = (fault + step for fault in faults for step in reach)
        wanted += [place for place in around if 0 <= place < len(tensors)]
    wanted += over
    if order == "worst" or not wanted:
        wanted += ranked[len(over) : len(over) + _WORST_WITHIN]
    return set(list(dict.fromkeys(wanted))[:limit])


def _gap(hidden: list[TensorComparison]) -> list[TensorRow | Gap]:
    over = sum(not tensor.verdict.passed for tensor in hidden)
    return [Gap(len(hidden), over)] if hidden else []
