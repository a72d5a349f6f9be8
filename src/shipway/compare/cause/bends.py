"""Wrong where an activation bends: below zero alone, at other zeros, with other signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Evidence, Explanation, Values, root_mean_square

__all__ = ["explain_bends"]

_FEWEST = 8


def explain_bends(evidence: Evidence) -> Explanation | None:
    """Find the half of the numbers, or the zeros, that alone are wrong."""
    return _one_half(evidence) or _zeros(evidence) or _signs(evidence)


def _one_half(evidence: Evidence) -> Explanation | None:
    """Right where golden is positive, wrong where it is not; a slope below zero is measured."""
    golden, actual, error = evidence.golden, evidence.actual, evidence.error
    right, wrong = golden > 0, golden <= 0
    if min(right.sum(), wrong.sum()) < _FEWEST or root_mean_square(golden[right]) == 0:
        return None
    left = root_mean_square(np.where(right, error, 0)) / evidence.scale
    own = root_mean_square(error[right]) / root_mean_square(golden[right])
    spread = root_mean_square(error[wrong]) / evidence.scale
    if not evidence.is_enough(left) or own > evidence.tolerance or spread < 3 * own:
        return None
    if (np.abs(error[wrong]) > 3 * own * evidence.scale).sum() < _FEWEST:
        return None
    text = f"right where golden is above 0, wrong in the {int(wrong.sum())} other elements"
    text += _below(golden[wrong], actual[wrong])
    return Explanation(
        "activation", f"{text}; where golden is above 0 the error is {own:.2g}", left
    )


def _below(golden: Values, actual: Values) -> str:
    """Say what each side does there."""
    if not golden.any():
        return f": {int((actual != 0).sum())} of them are not 0, down to {actual.min():.4g}"
    slope = float(golden @ actual / (golden @ golden))
    if root_mean_square(actual - slope * golden) <= 0.02 * root_mean_square(actual):
        return f": there it is {slope:.4g} times golden"
    return ""


def _zeros(evidence: Evidence) -> Explanation | None:
    """The engine has zeros that golden has not, and is right elsewhere."""
    extra = (evidence.actual == 0) & (evidence.golden != 0)
    return _masked(evidence, extra, evidence.golden, "0 in {} of {} elements where golden is not")


def _masked(
    evidence: Evidence, odd: NDArray[np.bool_], prediction: Values, text: str
) -> Explanation | None:
    if odd.sum() < _FEWEST or not evidence.actual.any():
        return None
    left = evidence.left(np.where(odd, 0, prediction))
    if not evidence.is_enough(left):
        return None
    text = text.format(int(odd.sum()), odd.size)
    return Explanation("activation", f"{text}; elsewhere the error is {left:.2g}", left)


def _signs(evidence: Evidence) -> Explanation | None:
    """The magnitudes are right, some signs are not."""
    flipped = evidence.golden * evidence.actual < 0
    share = float(flipped.mean())
    if flipped.sum() < _FEWEST or share > 0.99:
        return None
    left = evidence.left(np.where(flipped, -evidence.golden, evidence.golden))
    if not evidence.is_enough(left):
        return None
    text = f"the sign is another one in {share:.1%} of the elements, the magnitudes are right"
    return Explanation("activation", f"{text}; what is left after that is {left:.2g}", left)
