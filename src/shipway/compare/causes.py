"""The kinds of fault that are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CAUSES"]

CAUSES: Mapping[str, str] = MappingProxyType(
    {
        "gain": "everything is scaled by one factor",
        "offset": "a constant is added, to everything or to each channel: a bias dropped or wrong",
        "layout": "the right numbers in other places: a wrong transpose, axis or layout",
        "channel": "one channel, or one tile of the tensor, is wrong and the rest is right",
        "activation": "wrong where an activation bends: other zeros, other slope, another function",
        "saturation": "values are cut off at a bound, or at the end of the dtype's range",
        "nan": "NaN or Inf where there should be numbers",
        "precision": "what rounding to this dtype does by itself; no fault",
        "approximation": "another epsilon, or another approximation of the same function",
        "input": "computed from something else: operands swapped, another weight, a stale constant",
        "unknown": "none of these fits",
    }
)
"""What each kind means. `Cause.kind` and `Variant.cause` are keys of it."""
