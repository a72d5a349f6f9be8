"""The engine's tensor is another function of the same numbers, element by element."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from shipway.compare.cause.evidence import (
    Evidence,
    Explanation,
    Values,
    root_mean_square,
    spread_out,
)

__all__ = ["explain_curve"]

_FEWEST = 32
_NOISE_OF_NEIGHBOURS = 1.5  # an element has its own noise, and half of that of two others
_SMALL = 0.02
_LARGER_BELOW = 3.0
_SPREAD_LEFT = 0.3
_AS_STRAIGHT = 2.0


def explain_curve(evidence: Evidence) -> Explanation | None:
    """Find the tensor of which the error is a function, whatever function that is.

    Sorted by that tensor, the error runs along a curve, and each element's is what its neighbours
    tell. Of an error that is no such function they tell nothing.
    """
    if evidence.golden.size < _FEWEST:
        return None
    found = [
        (_left(values, target) / evidence.scale, name)
        for name, values, target in _candidates(evidence)
    ]
    left, name = min(found)
    if not evidence.is_enough(left):
        left, name = _upper_half(evidence), "golden where that is above 0"
    if math.isinf(left) or _is_line(evidence, left):
        return None
    text = f"a function of {name}, element by element: the error is {evidence.size:.2g}"
    if evidence.size < _SMALL:
        kind, text = "approximation", f"{text}, as another approximation of the same function makes"
    else:
        kind, text = "activation", f"{text}, as another activation makes"
    return Explanation(kind, f"{text}; what is left after that is {left:.2g}", left)


def _candidates(evidence: Evidence) -> Iterator[tuple[str, Values, Values]]:
    """Yield what to sort by, and what should then run along a curve."""
    cut = spread_out(evidence.golden.shape)
    golden, actual = evidence.golden[cut], evidence.actual[cut]
    yield "golden", golden, actual
    yield "golden", actual, golden
    for name, value in (evidence.feeds or {}).items():
        if value.shape == evidence.golden.shape and value.dtype.kind not in "iub":
            yield f"the input '{name}'", np.nan_to_num(value[cut].astype(np.float64)), actual


def _upper_half(evidence: Evidence) -> float:
    """Return what is left where golden is positive; inf unless that is enough to tell.

    Below zero GELU and SiLU take each value twice, so no error is a function of them there.
    """
    cut = spread_out(evidence.golden.shape)
    golden, actual, error = evidence.golden[cut], evidence.actual[cut], evidence.error[cut]
    upper = golden > 0
    if min(upper.sum(), (~upper).sum()) < _FEWEST:
        return math.inf
    size, other = (root_mean_square(error[part]) / evidence.scale for part in (upper, ~upper))
    left = _left(golden[upper], actual[upper]) / evidence.scale
    if other > _LARGER_BELOW * size or not evidence.is_enough(left, size):
        return math.inf
    return left


def _is_line(evidence: Evidence, left: float) -> bool:
    """Whether the curve is a straight line, as far as the noise lets one tell."""
    golden, actual = evidence.golden.ravel(), evidence.actual.ravel()
    slope, constant = np.polyfit(golden, actual, 1)
    return evidence.left(slope * evidence.golden + constant) <= _AS_STRAIGHT * left


def _left(values: Values, target: Values) -> float:
    """Return the RMS of what the neighbours in sorted order do not tell about each element.

    inf where that is much of what there is: a constant is a function of anything.
    """
    order = np.argsort(values, axis=None, kind="stable")
    x, y = values.ravel()[order], target.ravel()[order]
    gap = x[2:] - x[:-2]
    share = np.divide(x[1:-1] - x[:-2], gap, out=np.full(gap.shape, 0.5), where=gap > 0)
    apart = y[1:-1] - ((1 - share) * y[:-2] + share * y[2:])
    left = root_mean_square(apart) / math.sqrt(_NOISE_OF_NEIGHBOURS)
    return left if left < _SPREAD_LEFT * float(target.std()) else math.inf
