"""Plots of many tensors, error by depth and histogram, as positions a template draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shipway.compare.diagnosis import Diagnosis, TensorComparison
from shipway.compare.results import Metrics
from shipway.compare.verdict import limits_for
from shipway.report.charts import Scale, Tick, linear_scale, log_scale
from shipway.report.diagnosis_text import write_error, write_multiple

__all__ = [
    "DepthPlot",
    "DepthPoint",
    "Histogram",
    "HistogramBar",
    "lay_out_depth",
    "lay_out_histogram",
]

_MOST_POINTS = 400
"""Columns of marks that can be told apart across a page."""
_LOWEST_BAR = 0.8
"""Percent of the plot that a single tensor is high at least, among however many thousand."""
_BINS_PER_DECADE = 2


@dataclass(frozen=True, slots=True)
class DepthPoint:
    """One tensor, or the worst of a few neighbours, at its place in the order of execution.

    Args:
        at: Place across, in percent.
        start: Where its stretch of the axis begins, in percent.
        width: How wide that stretch is, in percent.
        local: Height of the local error in percent from the top; None where there is none.
        accumulated: The same of the accumulated error.
        title: In words.
        fault: Number of the culprit that it is, from 1; 0 for none.
    """

    at: float
    start: float
    width: float
    local: float | None
    accumulated: float | None
    title: str
    fault: int


@dataclass(frozen=True, slots=True)
class DepthPlot:
    """Relative L2 of every tensor over the order of execution.

    Args:
        points: In the order of execution.
        across: The axis of the order.
        up: The axis of the error; its places count from the top.
        limits: Height and words of each limit.
        joined: Tensors that one mark stands for, at most.
        alternative: The plot in words.
    """

    points: tuple[DepthPoint, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    limits: tuple[tuple[float, str], ...]
    joined: int
    alternative: str


def lay_out_depth(diagnosis: Diagnosis) -> DepthPlot | None:
    """Return the plot of local and accumulated error by depth; None where no error has a number."""
    tensors = diagnosis.tensors
    errors = [
        metrics.relative_l2
        for tensor in tensors
        for metrics in (tensor.local, tensor.accumulated)
        if metrics is not None and metrics.relative_l2 is not None
    ]
    finite = [error for error in errors if math.isfinite(error)]
    if not finite:
        return None
    limits = _limits(diagnosis)
    up = log_scale([*finite, *(limit for limit, _ in limits)])
    orders = [tensor.order for tensor in tensors]
    across = linear_scale(min(orders), max(orders), whole=True)
    joined = math.ceil(len(tensors) / _MOST_POINTS)
    groups = [tensors[start : start + joined] for start in range(0, len(tensors), joined)]
    faults = {c.tensor.pair: number for number, c in enumerate(diagnosis.culprits, start=1)}
    return DepthPlot(
        points=tuple(_point(group, across, up, faults) for group in groups),
        across=across.ticks,
        up=tuple(Tick(_height(tick.at), tick.label) for tick in up.ticks),
        limits=tuple((_height(up.place(limit)), title) for limit, title in limits),
        joined=joined,
        alternative=_say_depth(diagnosis),
    )


def _limits(diagnosis: Diagnosis) -> list[tuple[float, str]]:
    """Return the limit that most tensors were judged by; and for accumulated errors that of outputs."""
    judged = Counter(
        limit
        for tensor in diagnosis.tensors
        if (limit := tensor.verdict.limits.get("relative_l2")) is not None
    )
    usual = [limit for limit, _ in judged.most_common(1)]
    if not diagnosis.local:
        return [(limit, "accumulated limit") for limit in usual]
    outputs = limits_for(diagnosis.precision).relative_l2
    return [(outputs, "accumulated limit"), *((limit, "local limit") for limit in usual)]


def _height(place: float) -> float:
    return round(100 - place, 2)


def _point(
    group: Sequence[TensorComparison], across: Scale, up: Scale, faults: dict[tuple[str, str], int]
) -> DepthPoint:
    """Return the mark of a few neighbours: the largest errors among them, named after the worst."""
    worst = max(group, key=lambda tensor: (tensor.pair in faults, tensor.severity))
    first, last = group[0].order, group[-1].order
    start, end = max(0.0, across.place(first - 0.5)), min(100.0, across.place(last + 0.5))
    local = [tensor.local for tensor in group if tensor.local is not None]
    return DepthPoint(
        at=round(across.place((first + last) / 2), 2),
        start=round(start, 2),
        width=round(end - start, 2),
        local=_place_largest(local, up),
        accumulated=_place_largest([tensor.accumulated for tensor in group], up),
        title=_say_point(group, worst),
        fault=min((faults[t.pair] for t in group if t.pair in faults), default=0),
    )


def _place_largest(metrics: Iterable[Metrics], up: Scale) -> float | None:
    found = [one.relative_l2 for one in metrics if one.relative_l2 is not None]
    if not found:
        return None
    largest = max(found)
    return _height(up.place(largest)) if math.isfinite(largest) else 0.0


def _say_point(group: Sequence[TensorComparison], worst: TensorComparison) -> str:
    local = "" if worst.local is None else f"local {write_error(worst.local.relative_l2)}, "
    errors = f"{local}accumulated {write_error(worst.accumulated.relative_l2)}"
    text = f"{worst.order} {worst.golden}: {errors}, {write_multiple(worst.severity)} the limit"
    return f"{text}; the worst of {len(group)}" if len(group) > 1 else text


def _say_depth(diagnosis: Diagnosis) -> str:
    worst = sorted(diagnosis.tensors, key=lambda tensor: -tensor.severity)[:5]
    named = "; ".join(_say_point([tensor], tensor) for tensor in worst)
    return f"Relative L2 of {len(diagnosis.tensors)} tensors by depth. The worst: {named}"


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """A bin: where it stands and how high it is, in percent, and how many it counts."""

    start: float
    width: float
    height: float
    over: float
    title: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many tensors have errors of which size.

    Args:
        title: Which errors.
        bars: From small to large. `height` counts all tensors of a bin, `over` those of them that
            are beyond a limit.
        across: The axis of the error.
        up: The axis of the count; its places count from the top.
        base: Where the bars stand, in percent from the top.
        alternative: The plot in words.
    """

    title: str
    bars: tuple[HistogramBar, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    base: float
    alternative: str


def lay_out_histogram(diagnosis: Diagnosis) -> Histogram | None:
    """Return the histogram of the judged errors; None where no tensor has a finite one."""
    measured = [
        (tensor.judged.relative_l2, not tensor.verdict.passed)
        for tensor in diagnosis.tensors
        if tensor.judged.relative_l2 is not None and math.isfinite(tensor.judged.relative_l2)
    ]
    if not measured:
        return None
    bins = _bin_errors(measured)
    edges = [_edge(index) for index in bins if index is not None]
    zeros = [0.0] if None in bins else []
    across = log_scale([*zeros, *edges, *(edge * 10 ** (1 / _BINS_PER_DECADE) for edge in edges)])
    up = linear_scale(0, max(sum(counts) for counts in bins.values()), whole=True)
    base = up.place(0)
    bars = [_bar(index, counts, across, up) for index, counts in sorted(bins.items(), key=_by_size)]
    kind = "local" if diagnosis.local else "accumulated"
    said = "; ".join(bar.title for bar in bars)
    return Histogram(
        title=f"Tensors by {kind} error (relative L2)",
        bars=tuple(bars),
        across=across.ticks,
        up=tuple(Tick(_height(tick.at), tick.label) for tick in up.ticks),
        base=_height(base),
        alternative=f"Tensors by {kind} error. {said}",
    )


def _bin_errors(measured: Iterable[tuple[float, bool]]) -> dict[int | None, tuple[int, int]]:
    """Count tensors within and beyond their limits by half decade; None is the bin of zero."""
    bins: dict[int | None, tuple[int, int]] = {}
    for error, is_over in measured:
        index = math.floor(math.log10(error) * _BINS_PER_DECADE) if error > 0 else None
        within, over = bins.get(index, (0, 0))
        bins[index] = (within + (not is_over), over + is_over)
    return bins


def _by_size(item: tuple[int | None, tuple[int, int]]) -> float:
    return -math.inf if item[0] is None else item[0]


def _edge(index: int) -> float:
    return float(10 ** (index / _BINS_PER_DECADE))


def _bar(index: int | None, counts: tuple[int, int], across: Scale, up: Scale) -> HistogramBar:
    if index is None:
        start, width, size = across.place(0.0) - 1.5, 3.0, "no error"
    else:
        low, high = _edge(index), _edge(index + 1)
        start, width = across.place(low), across.place(high) - across.place(low)
        size = f"{low:.1e} to {high:.1e}"
    total = sum(counts)
    over = f", {counts[1]} beyond limits" if counts[1] else ""
    return HistogramBar(
        start=round(start, 2),
        width=round(width, 2),
        height=round(_bar_height(counts[0], up) + _bar_height(counts[1], up), 2),
        over=_bar_height(counts[1], up),
        title=f"{size}: {total}{over}",
    )


def _bar_height(count: int, up: Scale) -> float:
    return round(max(up.place(count) - up.place(0), _LOWEST_BAR), 2) if count else 0.0
