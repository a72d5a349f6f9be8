"""Distance between floating-point numbers, counted in representable values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.tensors import DType, dtype_of

__all__ = ["max_ulp", "narrower"]

_MANTISSA_BITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}


def narrower(golden: np.dtype[Any], actual: np.dtype[Any]) -> DType | None:
    """Return the dtype of the two with fewer mantissa bits; None unless both are floats.

    Example:
        >>> narrower(np.dtype("float32"), np.dtype("float16")).name
        'float16'
    """
    pair = (dtype_of(golden), dtype_of(actual))
    if not all(dtype.is_float for dtype in pair):
        return None
    return min(pair, key=lambda dtype: _MANTISSA_BITS[dtype.name])


def max_ulp(golden: NDArray[Any], actual: NDArray[Any], dtype: DType) -> int:
    """Return the largest distance between two elements at the same place.

    The distance is how many representable values of `dtype` one must step over to come from one to
    the other: 0 for equal values and for -0 and +0, 1 for neighbours. It counts across zero.

    Args:
        golden: Floats, any shape, at least one element, no NaN.
        actual: Same shape; no NaN.
        dtype: Both are rounded to this type first.

    Example:
        >>> one = np.ones(1, np.float32)
        >>> max_ulp(one, np.nextafter(one, 2), dtype_of(one.dtype))
        1
    """
    with np.errstate(over="ignore"):
        golden, actual = (value.astype(dtype.numpy, copy=False) for value in (golden, actual))
    golden_step, actual_step = _steps(golden), _steps(actual)
    # The farthest distance does not fit the signed type, but its two's complement does.
    apart = np.maximum(golden_step, actual_step) - np.minimum(golden_step, actual_step)
    return int(apart.view(f"u{apart.dtype.itemsize}").max())


def _steps(value: NDArray[Any]) -> NDArray[Any]:
    """Number the representable values in order: 0 for both zeros, -1 just below, 1 just above."""
    size = value.dtype.itemsize
    bits = np.ascontiguousarray(value).view(f"i{size}")
    negative = bits >> (8 * size - 1)  # all ones where the sign bit is set
    magnitude_mask = negative.dtype.type(np.iinfo(negative.dtype).max)
    steps: NDArray[Any] = (bits ^ (negative & magnitude_mask)) - negative
    return steps
