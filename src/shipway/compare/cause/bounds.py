"""Values cut off at a bound: by the engine, where golden goes on, or by golden alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Evidence, Explanation, Values, root_mean_square

__all__ = ["at_bound", "explain_bounds"]

_FEWEST = 3
_LEAKING = 0.2
_NEARLY_ALL = 0.1
_USUAL_BOUNDS = (1.0, 6.0, 127.0, 255.0, 65504.0)


def explain_bounds(evidence: Evidence) -> Explanation | None:
    """Find a bound that one side keeps to and the other goes beyond."""
    return _cut_off(evidence) or _goes_on(evidence) or _leaks(evidence)


def _cut_off(evidence: Evidence) -> Explanation | None:
    """The engine's tensor is golden between its own smallest and largest value."""
    golden, actual = evidence.golden, evidence.actual
    low, high = _ends(evidence, actual)
    above, below = _beyond(evidence, golden, low, high)
    high, low = (high if above else np.inf), (low if below else -np.inf)
    left = evidence.left(golden.clip(low, high))
    if not (above or below) or not evidence.is_enough(left):
        return None
    count = above + below
    share = f"{count} of {golden.size} elements"
    if below and not above and abs(low) <= evidence.tolerance * evidence.scale:
        text = f"0 in {share} where golden is negative: a ReLU that golden does not have"
        return Explanation("activation", f"{text}; what is left after that is {left:.2g}", left)
    sides = [f"above at {high:.6g}"] if above else []
    sides += [f"below at {low:.6g}"] if below else []
    text = f"cut off {' and '.join(sides)} in {share}, where golden lies in "
    text += f"{golden.min():.4g} to {golden.max():.4g}"
    return Explanation("saturation", f"{text}; what is left after that is {left:.2g}", left)


def _goes_on(evidence: Evidence) -> Explanation | None:
    """Golden is the engine's tensor between golden's own smallest and largest value."""
    golden, actual = evidence.golden, evidence.actual
    low, high = _ends(evidence, golden)
    above, below = _beyond(evidence, actual, low, high, swapped=True)
    high, low = (high if above else np.inf), (low if below else -np.inf)
    left = root_mean_square(golden - actual.clip(low, high)) / evidence.scale
    if not (above or below) or not evidence.is_enough(left):
        return None
    bounds = [f"{low:.6g}"] if below else []
    bounds += [f"{high:.6g}"] if above else []
    text = (
        f"goes on to {actual.min():.4g} and {actual.max():.4g} in {above + below} of {golden.size} "
        f"elements, where golden stops at {' and '.join(bounds)}"
    )
    return Explanation("activation", f"{text}; what is left after that is {left:.2g}", left)


def _leaks(evidence: Evidence) -> Explanation | None:
    """Golden stops at 0, and the engine does not: no rounding of a ReLU gives a negative number.

    However small they are: a slope of 0.01 is no more than what bfloat16 rounds away elsewhere.
    """
    golden, actual = evidence.golden, evidence.actual
    zero = golden == 0
    below = zero & (actual < 0)
    if golden.min() < 0 or below.sum() < max(_FEWEST, _LEAKING * zero.sum()):
        return None
    left = root_mean_square(np.where(below, 0, evidence.error)) / evidence.scale
    if left > max(evidence.tolerance, _NEARLY_ALL * evidence.size):
        return None
    text = (
        f"goes on below 0, to {actual.min():.4g}, in {int(below.sum())} of the {int(zero.sum())} "
        f"elements where golden stops at 0; elsewhere the error is {left:.2g}"
    )
    return Explanation("activation", text, left)


def _ends(evidence: Evidence, values: Values) -> tuple[float, float]:
    """Return the values that most elements share near the smallest and near the largest one.

    A bound may be topped by neighbours that were rounded up past it.
    """
    slack = 4 * evidence.tolerance * evidence.scale
    ends = []
    for near in (values[values <= values.min() + slack], values[values >= values.max() - slack]):
        found, counts = np.unique(near, return_counts=True)
        ends.append(float(found[counts.argmax()]))
    if np.sum(values >= ends[1]) < _FEWEST:
        ends[1] = float(values.max())
    if np.sum(values <= ends[0]) < _FEWEST:
        ends[0] = float(values.min())
    return ends[0], ends[1]


def _beyond(
    evidence: Evidence, free: Values, low: float, high: float, *, swapped: bool = False
) -> tuple[int, int]:
    """Count where `free` goes beyond a bound at which the other side sits; 0 where that is chance.

    One side always has a largest value. It is a bound where several elements share it, or where it
    is a number that bounds tend to be.
    """
    held = evidence.golden if swapped else evidence.actual
    if held.min() == held.max():
        return 0, 0
    slack = evidence.tolerance * evidence.scale
    counts = []
    for bound, past in ((high, free > high + slack), (low, free < low - slack)):
        sits = at_bound(held, bound) | ((held > high) if bound == high else (held < low))
        count = int((past & sits).sum())
        enough = 1 if abs(bound) in _USUAL_BOUNDS else _FEWEST
        counts.append(count if count >= enough and count >= 0.9 * past.sum() else 0)
    return counts[0], counts[1]


def at_bound(values: Values, bound: float) -> NDArray[np.bool_]:
    """Return where values equal a bound, up to the rounding of float32."""
    return np.asarray(np.abs(values - bound) <= 1e-6 * abs(bound))
