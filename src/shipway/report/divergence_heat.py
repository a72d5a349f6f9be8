"""Heat maps of the worst tensors: which limits they break, and in which of their channels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from shipway.compare.diagnosis import CHANNEL_ERRORS, Diagnosis, TensorComparison
from shipway.compare.verdict import gain_limit
from shipway.report.diagnosis_text import write_error, write_multiple

__all__ = ["HeatCell", "HeatMap", "HeatRow", "lay_out_heat"]

_FEWEST_HEAT_ROWS, _MOST_HEAT_ROWS = 12, 40
_HEAT_STEPS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Multiples of the limit at which the colour of a heat map changes; from the third on, broken."""
_SHARES = (0.1, 0.5)
"""Shares of the error of the tensor's worst channel at which the colour of a broken one changes."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A channel, or a metric, of one tensor.

    Args:
        step: 0 to 5: how far up the colours.
        title: In words.
        text: What is written in it; "" in a cell too small for text.
    """

    step: int
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class HeatRow:
    """The cells of one tensor."""

    order: int
    name: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where in the worst tensors the error lies.

    Args:
        columns: Titles of the metrics; empty where the cells are channels.
        rows: The worst tensors, in the order of execution.
        left_out: Tensors that are not shown.
    """

    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    left_out: int


def lay_out_heat(diagnosis: Diagnosis, *, channels: bool) -> HeatMap | None:
    """Return a heat map of the worst tensors.

    Args:
        diagnosis: What was found.
        channels: A cell a channel, of the tensors whose channels were kept; otherwise a cell a
            metric, as a multiple of its limit.
    """
    tensors = [t for t in diagnosis.tensors if t.channel_errors or not channels]
    worst = sorted(tensors, key=lambda tensor: (-tensor.severity, tensor.order))
    over = sum(not tensor.verdict.passed for tensor in tensors)
    count = min(max(over, _FEWEST_HEAT_ROWS), _MOST_HEAT_ROWS)
    shown = sorted(worst[:count], key=lambda tensor: tensor.order)
    if not shown:
        return None
    columns = () if channels else _judged_metrics(shown)
    rows = tuple(
        HeatRow(
            tensor.order,
            tensor.golden,
            _channel_cells(tensor) if channels else _metric_cells(tensor, columns),
        )
        for tensor in shown
    )
    return HeatMap(tuple(title for title, _ in columns), rows, len(tensors) - len(shown))


def _judged_metrics(tensors: Iterable[TensorComparison]) -> tuple[tuple[str, str], ...]:
    """Return the metrics that decide for any of these tensors."""
    judged = {field for tensor in tensors for field in tensor.verdict.limits}
    return tuple((title, field) for title, field in _METRICS if field in judged)


_METRICS = (
    ("Relative L2", "relative_l2"),
    ("Worst channel", "worst_channel"),
    ("Gain", "gain"),
    ("Zero pattern", "zero_mismatch"),
    ("NaN, Inf", "nonfinite_mismatches"),
    ("Unequal", "mismatches"),
)


def _metric_cells(
    tensor: TensorComparison, columns: Iterable[tuple[str, str]]
) -> tuple[HeatCell, ...]:
    return tuple(_metric_cell(tensor, title, field) for title, field in columns)


def _metric_cell(tensor: TensorComparison, title: str, field: str) -> HeatCell:
    value, limit = getattr(tensor.judged, field), tensor.verdict.limits.get(field)
    if value is None or limit is None:
        return HeatCell(0, f"{title}: not judged", "\N{EN DASH}")
    distance = float(value)
    if field == "gain":
        distance, limit = abs(distance - 1), gain_limit(tensor.judged, limit)
    multiple = _divide(distance, limit)
    return HeatCell(
        _step(multiple), f"{title}: {value:.4g}, limit {limit:.3g}", write_multiple(multiple)
    )


def _channel_cells(tensor: TensorComparison) -> tuple[HeatCell, ...]:
    limit = tensor.verdict.limits.get("worst_channel", math.inf)
    axis = tensor.judged.worst_channel_axis
    size = tensor.shape[axis] if axis is not None and axis < len(tensor.shape) else 0
    run = max(1, -(-size // CHANNEL_ERRORS))
    worst = max(tensor.channel_errors)
    return tuple(
        HeatCell(
            _channel_step(error, limit, worst), f"{_span(index, run, size)}: {write_error(error)}"
        )
        for index, error in enumerate(tensor.channel_errors)
    )


def _channel_step(error: float, limit: float, worst: float) -> int:
    """Grade what is within the limit by the limit, what is beyond it by the worst channel."""
    if error <= limit:
        return _step(_divide(error, limit))
    return 3 + sum(_divide(error, worst) > share for share in _SHARES) if error < worst else 5


def _span(index: int, run: int, size: int) -> str:
    first, last = index * run, min(index * run + run, size) - 1
    return f"{first} to {last}" if last > first else str(first)


def _divide(value: float, limit: float) -> float:
    if limit:
        return value / limit
    return math.inf if value else 0.0


def _step(multiple: float) -> int:
    return sum(multiple > bound for bound in _HEAT_STEPS)
