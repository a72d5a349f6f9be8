"""Few numbers that turn golden into the engine's tensor: factors and constants, fitted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Values

__all__ = ["Model", "fit_models"]

_ELEMENTS_PER_NUMBER = 4
_ROUNDS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A prediction of the engine's tensor.

    Args:
        kind: The kind of fault it would be.
        text: What is different, with its numbers.
        prediction: The predicted values, as many as were given.
        parameters: How many numbers were fitted.
    """

    kind: str
    text: str
    prediction: Values
    parameters: int


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """Elements that share a factor or a constant: for each, the number of its group."""

    index: NDArray[np.int64]
    count: int

    def sums(self, values: Values) -> Values:
        """Add up each group."""
        return np.bincount(self.index, values, self.count).astype(np.float64, copy=False)

    def means(self, values: Values) -> Values:
        """Return the mean of each group; 0 of an empty one."""
        return self.sums(values) / np.maximum(np.bincount(self.index, minlength=self.count), 1)


def fit_models(golden: Values, actual: Values, free: NDArray[np.bool_]) -> Iterator[Model]:
    """Fit every model, those with the fewest numbers first.

    Args:
        golden: Golden's tensor.
        actual: The engine's, same shape.
        free: The elements to fit, those that no bound holds; predictions are of these, flat.
    """
    left, right = golden[free], actual[free]
    yield from _whole(left, right)
    shape = golden.shape
    axes = [axis for axis, size in enumerate(shape) if 1 < size <= left.size / _ELEMENTS_PER_NUMBER]
    axes.sort(key=lambda axis: (axis != min(1, len(shape) - 1), axis != len(shape) - 1))
    groups = {axis: _along(shape, (axis,), free) for axis in axes}
    for axis, group in groups.items():
        yield _offsets(left, right, group, axis)
    for axis, group in groups.items():
        yield _gain_and_offsets(left, right, group, axis)
    for axis in axes:
        if axis == len(shape) - 1 or (axis == 1 and len(shape) != 3):
            yield from _channel_models(left, right, groups[axis], axis)
    yield from _row_models(left, right, shape, free)


def _along(shape: tuple[int, ...], axes: tuple[int, ...], free: NDArray[np.bool_]) -> _Groups:
    """Group the elements by their index on some axes."""
    sizes = tuple(shape[axis] for axis in axes)
    numbers = np.arange(math.prod(sizes)).reshape(
        [size if axis in axes else 1 for axis, size in enumerate(shape)]
    )
    return _Groups(np.broadcast_to(numbers, shape)[free], math.prod(sizes))


def _ratio(numerator: Any, denominator: Any) -> float:
    return float(numerator / denominator) if denominator else 0.0


def _whole(golden: Values, actual: Values) -> Iterator[Model]:
    """One factor, one constant, both."""
    gain = _ratio(golden @ actual, golden @ golden)
    yield Model("gain", f"scaled by {gain:.5g}", gain * golden, 1)
    offset = float((actual - golden).mean())
    yield Model("offset", f"{offset:+.5g} is added to every element", golden + offset, 1)
    middle, other = golden - golden.mean(), actual - actual.mean()
    slope = _ratio(middle @ other, middle @ middle)
    constant = float(actual.mean() - slope * golden.mean())
    text = f"scaled by {slope:.5g}, and {constant:+.5g} added"
    yield Model("gain", text, slope * golden + constant, 2)


def _offsets(golden: Values, actual: Values, groups: _Groups, axis: int) -> Model:
    offsets = groups.means(actual - golden)
    text = (
        f"a constant is added to each slice along axis {axis}, from {offsets.min():+.4g} to "
        f"{offsets.max():+.4g}: a bias that is missing or another one"
    )
    return Model("offset", text, golden + offsets[groups.index], groups.count)


def _gain_and_offsets(golden: Values, actual: Values, groups: _Groups, axis: int) -> Model:
    """One factor before a bias: the factor is common, a constant remains for each channel."""
    means, others = groups.means(golden), groups.means(actual)
    middle = golden - means[groups.index]
    slope = _ratio(middle @ (actual - others[groups.index]), middle @ middle)
    constants = others - slope * means
    prediction = slope * golden + constants[groups.index]
    text = f"scaled by {slope:.5g} before a constant is added to each slice along axis {axis}"
    return Model("gain", text, prediction, groups.count + 1)


def _channel_models(golden: Values, actual: Values, groups: _Groups, axis: int) -> Iterator[Model]:
    """A factor for each channel, without and with a constant: other weights."""
    factors = _safe(groups.sums(golden * actual), groups.sums(golden**2))
    text = f"each slice along axis {axis} is scaled by a factor of its own, {_range(factors)}"
    prediction = factors[groups.index] * golden
    yield Model("input", f"{text}: another weight along that axis", prediction, groups.count)
    slopes, prediction = _affine(golden, actual, groups)
    text = f"each slice along axis {axis} is scaled ({_range(slopes)}) and shifted by its own"
    yield Model("input", f"{text}: other weights along that axis", prediction, 2 * groups.count)


def _affine(golden: Values, actual: Values, groups: _Groups) -> tuple[Values, Values]:
    """Fit a factor and a constant to each group."""
    means, others = groups.means(golden), groups.means(actual)
    middle = golden - means[groups.index]
    slopes = _safe(groups.sums(middle * (actual - others[groups.index])), groups.sums(middle**2))
    return slopes, slopes[groups.index] * middle + others[groups.index]


def _row_models(
    golden: Values, actual: Values, shape: tuple[int, ...], free: NDArray[np.bool_]
) -> Iterator[Model]:
    """A factor for each row, as a normalization with another epsilon makes it."""
    why = "as another epsilon in a normalization makes it"
    rows = math.prod(shape[:-1])
    if len(shape) > 1 and rows > 1 and shape[-1] >= 2 * _ELEMENTS_PER_NUMBER:
        groups = _along(shape, tuple(range(len(shape) - 1)), free)
        factors = _safe(groups.sums(golden * actual), groups.sums(golden**2))
        text = f"each row along the last axis is scaled by a factor of its own, {_range(factors)}"
        yield Model("approximation", f"{text}, {why}", factors[groups.index] * golden, rows)
        if free.all() and rows >= 2 * _ELEMENTS_PER_NUMBER:
            yield _rows_around_bias(golden, actual, shape[-1], why)
    if len(shape) > 2 and math.prod(shape[2:]) >= 4 * _ELEMENTS_PER_NUMBER:
        groups = _along(shape, (0, 1), free)
        slopes, prediction = _affine(golden, actual, groups)
        text = (
            f"each slice along the axes 0 and 1 is scaled by a factor of its own, {_range(slopes)}"
        )
        if groups.count > 1:
            yield Model("approximation", f"{text}, {why}", prediction, 2 * groups.count)


def _rows_around_bias(golden: Values, actual: Values, columns: int, why: str) -> Model:
    """Fit actual = t_r (golden - b_c) + b_c: a factor a row before the bias of a normalization.

    Alternating least squares: with b known each t is a line's slope, and the other way round.
    """
    golden, actual = golden.reshape(-1, columns), actual.reshape(-1, columns)
    bias = np.zeros(columns)
    for _ in range(_ROUNDS):
        middle = golden - bias
        factors = _safe((middle * (actual - bias)).sum(axis=1), (middle**2).sum(axis=1))
        rest = 1 - factors[:, None]
        bias = _safe((rest * (actual - factors[:, None] * golden)).sum(axis=0), (rest**2).sum())
    prediction = (factors[:, None] * (golden - bias) + bias).ravel()
    text = f"each row along the last axis is scaled by a factor of its own, {_range(factors)}, "
    return Model("approximation", f"{text}before a bias, {why}", prediction, sum(middle.shape))


def _safe(numerator: Values, denominator: Values) -> Values:
    """Divide; 1 where there is nothing to divide by."""
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.ones_like(numerator), where=denominator > 0)


def _range(factors: Values) -> str:
    return f"{factors.min():.4g} to {factors.max():.4g}"
