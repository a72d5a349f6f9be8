"""Inputs that try a graph hard: negatives, zeros, large numbers, one NaN, indices within range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.tensors import Tensors, TensorSpec, dtype_named, random_feeds

__all__ = ["FILLS", "NAN_FILL", "find_ranges", "hostile_feeds"]

NAN_FILL = "one NaN"
_HIGHEST_INDICES = (999, 99, 9, 3, 1, 0)
Array = NDArray[Any]


def _negative(array: Array) -> Array:
    return np.asarray(-np.abs(array) - array.dtype.type(0.125))


def _zeros(array: Array) -> Array:
    zeros = np.zeros_like(array)
    zeros.reshape(-1)[::2] *= -1  # of both signs
    return zeros


def _large(array: Array) -> Array:
    return np.asarray(array * array.dtype.type(100))


def _one_nan(array: Array) -> Array:
    filled = array.copy()
    filled.reshape(-1)[:1] = np.nan
    return filled


FILLS: Mapping[str, Callable[[Array], Array]] = {
    "normal": np.asarray,
    "negative": _negative,
    "zeros": _zeros,
    "large": _large,
    NAN_FILL: _one_nan,
}
"""What is done to standard normal numbers of each floating-point input."""


def hostile_feeds(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield a name and inputs for each fill; without a floating-point input there is one.

    Args:
        specs: The inputs; those with a `value_range` keep to it.
        sizes: Size of each dynamic dimension.
        seed: Of the numbers.
    """
    floats = [
        spec.name for spec in specs if dtype_named(spec.dtype).is_float and spec.value_range is None
    ]
    for number, (name, fill) in enumerate(FILLS.items()):
        feeds = random_feeds(specs, seed=seed + number, sizes=sizes)
        for one in floats:
            feeds[one] = fill(feeds[one])
        yield name if floats else "random", feeds
        if not floats:
            return


def find_ranges(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], run: Callable[[Tensors], str]
) -> tuple[TensorSpec, ...]:
    """Return the specs with the widest range of indices that the model takes.

    Args:
        specs: The inputs.
        sizes: Sizes to try at.
        run: Runs the model; returns why it refuses, "" where it does not.
    """
    integers = [spec for spec in specs if _is_index(spec)]
    if not integers:
        return tuple(specs)
    for highest in _HIGHEST_INDICES:
        found = tuple(
            replace(spec, value_range=(0.0, float(highest))) if _is_index(spec) else spec
            for spec in specs
        )
        if not run(random_feeds(found, seed=1, sizes=sizes)):
            return found
    return tuple(specs)


def _is_index(spec: TensorSpec) -> bool:
    dtype = dtype_named(spec.dtype)
    return not dtype.is_float and spec.dtype in {"int64", "int32"} and spec.value_range is None
