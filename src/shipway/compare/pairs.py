"""Read two tensors side by side, block by block, in a type wide enough for their difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.blocks import Block, cut
from shipway.errors import TensorError
from shipway.tensors import dtype_of

__all__ = ["check_shapes", "paired_blocks", "wide_dtype"]

Pair = tuple[Block, NDArray[Any], NDArray[Any]]


def check_shapes(golden: NDArray[Any], actual: NDArray[Any]) -> None:
    """Refuse tensors that cannot be compared element by element.

    Raises:
        TensorError: The shapes differ.
    """
    if golden.shape != actual.shape:
        raise TensorError(
            f"Cannot compare shape {list(golden.shape)} with shape {list(actual.shape)}."
        )


def wide_dtype(golden: NDArray[Any], actual: NDArray[Any]) -> type[np.floating[Any]]:
    """Return float64, or long double where a dtype has 8 bytes: it holds any difference.

    Raises:
        TensorError: The shapes differ, or a dtype is none of Shipway's.
    """
    check_shapes(golden, actual)
    wide = any(dtype_of(side.dtype).numpy.itemsize == 8 for side in (golden, actual))
    return np.longdouble if wide else np.float64


def paired_blocks(golden: NDArray[Any], actual: NDArray[Any], block_size: int) -> Iterator[Pair]:
    """Yield blocks of both tensors in C order: which part it is, golden's values, actual's.

    The values are flat and `wide_dtype`; the next block overwrites them.

    Raises:
        TensorError: The shapes differ, or a dtype is none of Shipway's.
    """
    wide = wide_dtype(golden, actual)
    if not golden.size:
        return
    golden, actual = np.atleast_1d(golden, actual)
    buffers = np.empty((2, min(golden.size, block_size)), wide)
    for block in cut(golden.shape, block_size):
        left, right = buffers[:, : block.size]
        np.copyto(left.reshape(block.shape), block.of(golden), casting="unsafe")
        np.copyto(right.reshape(block.shape), block.of(actual), casting="unsafe")
        yield block, left, right
