"""One slice, a run of slices, a tile or the border is wrong, and the rest is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Evidence, Explanation, Values, root_mean_square

__all__ = ["explain_channel"]

_BAD_MULTIPLE = 3
_MOST_OF_AXIS = 0.25
_SHARE = 0.9
_SHARE_BESIDE_NOISE = 0.4
_MOST_LISTED = 8
_FEWEST = 8


def explain_channel(evidence: Evidence) -> Explanation | None:
    """Find the axis along which few slices hold the error and the others hold none.

    The right slices are held against their own golden values, so that an error common to all is
    not taken for that of the one slice with the largest values.
    """
    alone = _one_element(evidence)
    if alone is not None:
        return alone
    found = [
        (int(bad.sum()) / bad.size, axis, bad)
        for axis in range(evidence.golden.ndim)
        if (bad := _bad_slices(evidence, axis)) is not None
    ]
    if not found:
        return _border(evidence)
    _, axis, bad = min(found, key=lambda entry: entry[:2])
    wrong = np.moveaxis(evidence.error, axis, 0)[bad]
    left = root_mean_square(np.moveaxis(evidence.error, axis, 0)[~bad]) / evidence.scale
    own = root_mean_square(np.moveaxis(evidence.golden, axis, 0)[bad]) or evidence.scale
    text = (
        f"{_slices(bad)} on axis {axis} of {bad.size} {'is' if bad.sum() == 1 else 'are'} off by "
        f"{root_mean_square(wrong) / own:.3g}{_zeroed(evidence, axis, bad)}{_within(found, axis)}"
    )
    return Explanation("channel", f"{text}; the others by {left:.2g}", left)


def _one_element(evidence: Evidence) -> Explanation | None:
    """One element is wrong. A ReLU makes 0 of a NaN in some engines."""
    if evidence.error.size < _FEWEST:
        return None
    place = np.unravel_index(int(np.abs(evidence.error).argmax()), evidence.error.shape)
    others = evidence.error.copy()
    others[place] = 0
    left = root_mean_square(others) / evidence.scale
    apart = abs(float(evidence.error[place])) > _BAD_MULTIPLE * float(np.abs(others).max())
    if not apart or left > evidence.tolerance:
        return None
    right, wrong = float(evidence.golden[place]), float(evidence.actual[place])
    text = (
        f"one element alone, {[int(index) for index in place]}, is wrong: {wrong:.6g} instead of "
        f"{right:.6g}{'' if wrong else ' (some activations make 0 of a NaN)'}"
    )
    return Explanation("channel", f"{text}; the others are off by {left:.2g}", left)


def _bad_slices(evidence: Evidence, axis: int) -> NDArray[np.bool_] | None:
    """Return which slices are wrong; None unless they are few and hold the error."""
    error, golden = (_square_means(side, axis) for side in (evidence.error, evidence.golden))
    if error.size < 2:
        return None
    own = np.sqrt(golden)
    apart = np.sqrt(error) / np.maximum(own, evidence.scale)
    usual = 2 * float(np.median(apart))  # more than rounding, where the precision is another one
    bad = apart > _BAD_MULTIPLE * max(evidence.tolerance, usual, 1e-12)
    most = max(1.0, _MOST_OF_AXIS * error.size)
    if not 0 < bad.sum() <= most:
        return None
    share = error[bad].sum() / error.sum()
    rest = float(np.sqrt(error[~bad].mean())) / evidence.scale
    if share < (_SHARE_BESIDE_NOISE if rest <= evidence.tolerance else _SHARE):
        return None
    if _is_common(evidence, axis, bad, own):
        return None
    return np.asarray(bad)


def _is_common(
    evidence: Evidence, axis: int, bad: NDArray[np.bool_], own: NDArray[np.float64]
) -> bool:
    """Whether the right slices are as wrong as the bad ones, in proportion to what they hold."""
    error = np.moveaxis(evidence.error, axis, 0)
    ratio = root_mean_square(error[bad]) / (root_mean_square(own[bad]) or evidence.scale)
    others = root_mean_square(own[~bad])
    if not others:
        return False
    return root_mean_square(error[~bad]) / others > max(0.3 * ratio, evidence.tolerance)


def _square_means(values: Values, axis: int) -> NDArray[np.float64]:
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    means: NDArray[np.float64] = np.einsum("ri,ri->r", rows, rows) / rows.shape[1]
    return means


def _slices(bad: NDArray[np.bool_]) -> str:
    places = np.flatnonzero(bad)
    if places.size == 1:
        return f"slice {places[0]}"
    if places[-1] - places[0] + 1 == places.size:
        return f"slices {places[0]} to {places[-1]}"
    shown = ", ".join(str(place) for place in places[:_MOST_LISTED])
    return f"slices {shown}{', ...' if places.size > _MOST_LISTED else ''}"


def _zeroed(evidence: Evidence, axis: int, bad: NDArray[np.bool_]) -> str:
    return ": all zero" if not np.moveaxis(evidence.actual, axis, 0)[bad].any() else ""


def _within(found: list[tuple[float, int, NDArray[np.bool_]]], axis: int) -> str:
    """Name the other axes along which the error lies in few slices as well: it is a tile."""
    others = [f"{_slices(bad)} on axis {other}" for _, other, bad in found if other != axis]
    return f", only in {' and '.join(others)}" if others else ""


def _border(evidence: Evidence) -> Explanation | None:
    """An error in the frame of the last two axes alone, as another padding makes."""
    if evidence.golden.ndim < 3 or min(evidence.golden.shape[-2:]) < 7:
        return None
    for width in (1, 2, 3):
        inner = evidence.error[..., width:-width, width:-width]
        left = root_mean_square(inner) / evidence.scale
        share = 1 - float((inner**2).sum() / (evidence.error**2).sum())
        area = 1 - inner.size / evidence.error.size
        if left <= evidence.tolerance and share > _SHARE and area < 0.75:
            text = f"only the outer {width} rows and columns of the last two axes are wrong"
            return Explanation(
                "channel", f"{text}, as another padding makes; the rest by {left:.2g}", left
            )
    return None
