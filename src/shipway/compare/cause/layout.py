"""The right numbers in other places: permuted axes, slices in another order, a sum on another axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Evidence, Explanation, Values, root_mean_square

__all__ = ["explain_layout"]

_SAMPLE = 512
_MOST_AXES = 6
_MOST_SLICES = 1024
_SUM_TOLERANCE = 0.01
_UNNAMED = 0.3  # relative L2 that numbers in other places have at least, whatever the order


def explain_layout(evidence: Evidence) -> Explanation | None:
    """Find the rearrangement of golden that is the engine's tensor.

    The same numbers have the same sorted values. A named rearrangement (axes in another order,
    slices in another order) is proof by itself; without a name the sorted values must agree much
    better than those of two different tensors with one distribution would.
    """
    if evidence.golden.size < 2 or evidence.size < 0.01:
        return None
    sorted_golden, sorted_actual = (
        np.sort(evidence.golden.ravel()),
        np.sort(evidence.actual.ravel()),
    )
    apart = root_mean_square(sorted_actual - sorted_golden) / evidence.scale
    if apart > max(evidence.tolerance, 1e-12) or apart > 0.1 * evidence.size:
        return _other_sum_axis(evidence)
    for text, prediction in itertools.chain(_axis_orders(evidence), _slice_orders(evidence)):
        left = evidence.left(prediction)
        if evidence.is_enough(left):
            return Explanation("layout", f"{text}{_rest(left)}", left)
    by_chance = 1 / math.sqrt(evidence.golden.size)
    if evidence.size > _UNNAMED and apart < 0.1 * min(by_chance, evidence.size):
        text = "the same numbers in other places, by no order of whole axes or slices"
        return Explanation("layout", f"{text}; sorted, they differ by {apart:.2g}", apart)
    return None


def _rest(left: float) -> str:
    return f"; what is left after that is {left:.2g}"


def _axis_orders(evidence: Evidence) -> Iterator[tuple[str, Values]]:
    """Yield golden with its axes in each other order, read as the original shape, and the reverse."""
    golden, actual = evidence.golden, evidence.actual
    shape = golden.shape
    if sum(size > 1 for size in shape) < 2 or golden.ndim > _MOST_AXES:
        return
    picks = np.random.default_rng(0).integers(0, golden.size, _SAMPLE)
    wanted = actual.ravel()[picks]
    for order in itertools.permutations(range(golden.ndim)):
        inverse = tuple(int(axis) for axis in np.argsort(order))
        laid_out = tuple(shape[axis] for axis in order)
        if _near(evidence, golden.ravel()[_sources(picks, shape, order)], wanted):
            text = f"golden with its axes in the order {order}"
            if laid_out != shape:
                text += f", its numbers read as {list(shape)}"
            yield text, golden.transpose(order).reshape(shape)
        back = golden.reshape(laid_out).transpose(inverse)
        if laid_out != shape and _near(evidence, back.ravel()[picks], wanted):
            text = (
                f"golden's numbers read as {list(laid_out)}, with the axes in the order {inverse}"
            )
            yield text, back


def _sources(
    picks: NDArray[np.int64], shape: tuple[int, ...], order: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return where in golden the elements lie that transposing brings to `picks`."""
    places = np.unravel_index(picks, tuple(shape[axis] for axis in order))
    original = [places[order.index(axis)] for axis in range(len(shape))]
    return np.asarray(np.ravel_multi_index(original, shape))


def _near(evidence: Evidence, found: Values, wanted: Values) -> bool:
    apart = root_mean_square(found - wanted) / evidence.scale
    return apart <= max(3 * evidence.tolerance, 0.2 * evidence.size)


def _slice_orders(evidence: Evidence) -> Iterator[tuple[str, Values]]:
    """Yield golden with its slices along each axis in the order that is nearest to actual."""
    for axis in range(evidence.golden.ndim):
        count = evidence.golden.shape[axis]
        if not 1 < count <= _MOST_SLICES:
            continue
        golden, actual = (
            np.moveaxis(side, axis, 0).reshape(count, -1)
            for side in (evidence.golden, evidence.actual)
        )
        apart = (golden**2).sum(axis=1)[None, :] - 2 * actual @ golden.T
        order = apart.argmin(axis=1)
        if np.unique(order).size == count:
            text = f"slices along axis {axis} in another order: {_listed(order)}"
            yield text, np.take(evidence.golden, order, axis)


def _listed(order: NDArray[np.int64]) -> str:
    """Write the order down; say so where it is a mere flip."""
    if (order == np.arange(order.size)[::-1]).all() and order.size > 2:
        return "backwards"
    shown = ", ".join(str(index) for index in order[:16])
    return f"{shown}, ..." if order.size > 16 else shown


def _other_sum_axis(evidence: Evidence) -> Explanation | None:
    """A softmax over the wrong axis: each side adds up to 1, along different axes."""
    golden, actual = evidence.golden, evidence.actual
    if golden.min() < 0 or actual.min() < -evidence.tolerance or evidence.size < 0.1:
        return None
    right = [axis for axis in range(golden.ndim) if _adds_up(golden, axis)]
    wrong = [axis for axis in range(golden.ndim) if _adds_up(actual, axis)]
    if not right or not wrong or set(right) & set(wrong):
        return None
    text = f"adds up to 1 along axis {wrong[0]}, but golden does along axis {right[0]}"
    return Explanation("layout", f"{text}: a softmax over the wrong axis", 0.0)


def _adds_up(values: Values, axis: int) -> bool:
    if values.shape[axis] < 2:
        return False
    return bool(np.abs(values.sum(axis=axis) - 1).max() <= _SUM_TOLERANCE)
