"""NaN and Inf on one side only: where, and whether they came in from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Explanation
from shipway.compare.pairs import check_shapes
from shipway.tensors import Tensors

__all__ = ["explain_nonfinite"]

_LARGEST = {"f16": 65504.0, "bf16": 3.3895313892515355e38, "f32": 3.4028234663852886e38}


def explain_nonfinite(
    golden: NDArray[Any], actual: NDArray[Any], precision: str, feeds: Tensors | None
) -> Explanation | None:
    """Explain NaN and Inf that are on one side only; None where there are none.

    Args:
        golden: Golden's tensor.
        actual: The engine's; same shape.
        precision: What the engine computes in: it overflows beyond that dtype's largest value.
        feeds: What goes into the operators before this tensor, if that is known.

    Raises:
        TensorError: The shapes differ.
    """
    check_shapes(golden, actual)
    golden, actual = (np.atleast_1d(side).astype(np.float64) for side in (golden, actual))
    same = (golden == actual) | (np.isnan(golden) & np.isnan(actual))
    odd = ~same & ~(np.isfinite(golden) & np.isfinite(actual))
    if not odd.any():
        return None
    places = f"in {int(odd.sum())} of {odd.size} elements, first at {_first(odd)}"
    left, right = golden[odd], actual[odd]
    if _overflows(left, right, _LARGEST[precision]):
        text = f"Inf {places}, all where golden is beyond {_LARGEST[precision]:.6g}, the end of "
        text += f"{precision}: up to {np.abs(left).max():.4g}"
        return Explanation("saturation", text, 0.0)
    if np.isinf(left).all() and np.isfinite(right).all() and np.unique(np.abs(right)).size == 1:
        text = f"{right[0]:.6g} {places}, where golden is {left[0]:g}"
        return Explanation("saturation", text, 0.0)
    return Explanation("nan", f"{_names(left, right)} {places}{_slice(odd)}{_inputs(feeds)}", 0.0)


def _overflows(golden: NDArray[Any], actual: NDArray[Any], largest: float) -> bool:
    """Whether every Inf has golden's sign and stands for a number beyond the dtype's largest."""
    if np.isnan(golden).any() or not np.isinf(actual).all():
        return False
    beyond = np.abs(golden) >= largest * (1 - 2**-9)
    return bool((beyond & (np.sign(golden) == np.sign(actual))).all())


def _names(golden: NDArray[Any], actual: NDArray[Any]) -> str:
    if np.isfinite(actual).all():
        return f"numbers where golden is {'NaN' if np.isnan(golden).any() else 'Inf'}"
    kinds = [("NaN", np.isnan(actual)), ("Inf", np.isinf(actual))]
    return " and ".join(name for name, found in kinds if found.any())


def _first(odd: NDArray[np.bool_]) -> list[int]:
    return [int(index) for index in np.unravel_index(int(odd.argmax()), odd.shape)]


def _slice(odd: NDArray[np.bool_]) -> str:
    """Name the one slice that holds all of them."""
    if odd.sum() == 1:
        return ""
    for axis in range(odd.ndim):
        hit = odd.any(axis=tuple(k for k in range(odd.ndim) if k != axis))
        if hit.size > 1 and hit.sum() == 1:
            return f", all in slice {int(hit.argmax())} on axis {axis}"
    return ""


def _inputs(feeds: Tensors | None) -> str:
    if not feeds:
        return ""
    odd = [
        name
        for name, value in feeds.items()
        if value.dtype.kind not in "iub" and not np.isfinite(value.astype(np.float64)).all()
    ]
    if odd:
        return f"; NaN or Inf come in with {', '.join(repr(name) for name in odd)}"
    return "; every input of the operators before it is finite, so they arise here"
