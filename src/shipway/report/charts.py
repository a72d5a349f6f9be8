"""Plots of one value an engine on a shared axis, as positions in percent that a template draws.

The page has no script and no chart library: dots with intervals are all these plots need, and
vector marks at percent positions print sharply, follow the colour scheme, and fit any width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Bar",
    "Chart",
    "Mark",
    "Row",
    "Scale",
    "Shape",
    "Tick",
    "linear_scale",
    "log_scale",
    "stack",
]

_EDGE = 3.0
"""Percent of the plot left free at either end, so that a mark on the edge is drawn whole."""

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_WHOLE_STEPS = (1.0, 2.0, 5.0, 10.0)
_MAX_DECADES = 5

Shape = Literal["dot", "ring", "tick", "limit"]


@dataclass(frozen=True, slots=True)
class Tick:
    """A value of the axis: where, in percent of the plot's width, and how it reads."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A value: where, and its shape. Shapes differ so that no reader needs colours."""

    at: float
    shape: Shape


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of the axis: an interval, or a part of a stacked bar, by its kind."""

    start: float
    end: float
    kind: str

    @property
    def width(self) -> float:
        """End minus start, in percent."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in a plot: its name, its marks, and the value in words beside it."""

    label: str
    value: str
    marks: tuple[Mark, ...] = ()
    bars: tuple[Bar, ...] = ()
    golden: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with a row an engine.

    Args:
        title: What is plotted, with its unit.
        rows: The engines that have a value.
        ticks: The axis.
        legend: Shape or kind, and what it means.
        reference: Position of golden, drawn through all rows.
    """

    title: str
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    legend: tuple[tuple[str, str], ...] = ()
    reference: float | None = None

    @property
    def alternative(self) -> str:
        """The plot in words, for readers who cannot see it."""
        return f"{self.title}. " + "; ".join(f"{row.label}: {row.value}" for row in self.rows)


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis: its ticks, and where a value lies on it."""

    ticks: tuple[Tick, ...]
    place: Callable[[float], float]


def linear_scale(low: float, high: float, *, bound: float = math.inf, whole: bool = False) -> Scale:
    """Return an axis with 3 to 7 round ticks that covers `low` to `high`.

    Args:
        low: Smallest value to show, at least 0.
        high: Largest value to show.
        bound: The axis ends here at the latest; `high` is not above it.
        whole: Ticks at whole numbers only, for counts.
    """
    if high <= low:
        pad = abs(low) * 0.01 or 1.0
        low, high = max(0.0, low - pad), min(bound, high + pad)
    rough = (high - low) / 5
    step = _round_step(max(rough, 1.0), _WHOLE_STEPS) if whole else _round_step(rough, _STEPS)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    start, end = first * step, min(last * step, bound)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9), _decimals(step))

    def place(value: float) -> float:
        return _position((value - start) / (end - start))

    values = [index * step for index in range(first, last + 1) if index * step <= end]
    return Scale(tuple(Tick(place(v), f"{v:,.{decimals}f}") for v in values), place)


def _round_step(rough: float, factors: Sequence[float]) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in factors if factor * power >= rough * (1 - 1e-9))


def _decimals(step: float) -> int:
    digits = f"{step:.12f}".rstrip("0")
    return len(digits.partition(".")[2])


def _position(share: float) -> float:
    return round(_EDGE + (100 - 2 * _EDGE) * share, 3)


def log_scale(values: Iterable[float], *, plain: bool = False) -> Scale:
    """Return an axis of powers of ten that covers all positive values, with a place for zero.

    Args:
        values: Not negative. Zeros get a tick of their own, left of the powers.
        plain: Write 0.1, 1, 10 rather than 1e-1, 1e0, 1e1.
    """
    every = list(values)
    positive = [value for value in every if value > 0] or [1.0]
    low = math.floor(math.log10(min(positive)) + 1e-9)
    high = max(math.ceil(math.log10(max(positive)) - 1e-9), low + 1)
    zero_share = 0.12 if len(positive) < len(every) or not every else 0.0

    def place_power(power: float) -> float:
        share = (power - low) / (high - low)
        return _position(zero_share + (1 - zero_share) * share)

    def place(value: float) -> float:
        return place_power(math.log10(value)) if value > 0 else _position(0.0)

    stride = math.ceil((high - low) / _MAX_DECADES)
    powers = range(low, high + 1, stride)
    ticks = [Tick(place_power(p), f"{10.0**p:g}" if plain else f"1e{p}") for p in powers]
    zero = [Tick(place(0.0), "0")] if zero_share else []
    return Scale((*zero, *ticks), place)


def stack(parts: Sequence[tuple[str, float]], place: Callable[[float], float]) -> tuple[Bar, ...]:
    """Return the parts, kind and length, laid end to end from zero; empty ones are left out."""
    bars, total = [], 0.0
    for kind, length in parts:
        if length > 0:
            bars.append(Bar(place(total), place(total + length), kind))
        total += length
    return tuple(bars)
