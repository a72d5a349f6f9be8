"""Cut a tensor into blocks that fit the cache, and keep sums for each slice along an axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "SliceSums", "cut"]

_MOST_SLICES = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a tensor that is contiguous in C order.

    Args:
        lead: Index on every axis before the one that is cut.
        start: First index on the axis that is cut, which is axis `len(lead)`.
        shape: Shape of the block: the cut axis, then every axis behind it, whole.
    """

    lead: tuple[int, ...]
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements in the block."""
        return math.prod(self.shape)

    def of(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return this block of `tensor`, as a view of shape `shape`."""
        inner: NDArray[Any] = tensor[self.lead]
        return inner[self.start : self.start + self.shape[0]]

    def along(self, axis: int) -> tuple[int, tuple[int, int, int]]:
        """Say which slices along `axis` of the whole tensor run through this block.

        Returns:
            Index of the first slice, and the shape (outer, slices, inner) that lays the flat block
            out with its slices on the middle axis.
        """
        depth = axis - len(self.lead)
        if depth < 0:
            return self.lead[axis], (1, 1, self.size)
        outer, inner = math.prod(self.shape[:depth]), math.prod(self.shape[depth + 1 :])
        return (0 if depth else self.start), (outer, self.shape[depth], inner)


def cut(shape: tuple[int, ...], block_size: int) -> Iterator[Block]:
    """Cut a tensor into blocks of at most `block_size` elements, in C order.

    Args:
        shape: Shape of the tensor; at least one axis, no axis of size 0.
        block_size: At least 1.
    """
    axis = next(k for k in range(len(shape)) if math.prod(shape[k + 1 :]) <= block_size)
    rest = shape[axis + 1 :]
    step = max(1, block_size // math.prod(rest))
    for lead in itertools.product(*map(range, shape[:axis])):
        for start in range(0, shape[axis], step):
            yield Block(lead, start, (min(step, shape[axis] - start), *rest))


class SliceSums:
    """Squared error, squared golden and element count of each slice along one axis.

    Memory stays bounded: past a million slices, 2^k neighbours share one entry (`tile`).
    """

    def __init__(self, length: int) -> None:
        """Begin with zeros for an axis of `length` slices; a longer tensor may follow."""
        self.tile = 1 << max(0, math.ceil(math.log2(max(1, length) / _MOST_SLICES)))
        self._sums: NDArray[Any] = np.zeros((3, -(-length // self.tile)))

    def add(self, first: int, error: NDArray[Any], golden: NDArray[Any], count: Any) -> None:
        """Add the sums of a run of neighbouring slices, the first of which is `first`.

        Args:
            first: Index of the first slice.
            error: Sum of squared differences of each slice.
            golden: Sum of squared golden values of each slice.
            count: Elements of each slice, one array or one number for all.
        """
        rows = np.empty((3, error.size), error.dtype)
        rows[0], rows[1], rows[2] = error, golden, count
        lost = first % self.tile
        if lost:
            rows = np.pad(rows, ((0, 0), (lost, 0)))
        self._add_tiles(first // self.tile, self._tiled(rows, self.tile))

    def merge(self, other: SliceSums) -> None:
        """Add the sums of another tensor whose slices mean the same."""
        tile = max(self.tile, other.tile)
        self._sums = self._tiled(self._sums, tile // self.tile)
        self.tile = tile
        self._add_tiles(0, self._tiled(other._sums, tile // other.tile))

    @staticmethod
    def _tiled(rows: NDArray[Any], tile: int) -> NDArray[Any]:
        if tile == 1:
            return rows
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % tile)))
        total: NDArray[Any] = padded.reshape(3, -1, tile).sum(axis=2)
        return total

    def _add_tiles(self, first: int, tiles: NDArray[Any]) -> None:
        missing = first + tiles.shape[1] - self._sums.shape[1]
        dtype = np.promote_types(self._sums.dtype, tiles.dtype)
        if missing > 0 or dtype != self._sums.dtype:
            self._sums = np.pad(self._sums.astype(dtype), ((0, 0), (0, max(0, missing))))
        self._sums[:, first : first + tiles.shape[1]] += tiles

    def worst(self, mean_square: float) -> tuple[float, int]:
        """Return the largest relative L2 of one slice, and the index of that slice.

        A slice is measured against its own golden values, but never against less than
        `mean_square`, the mean over the whole tensor: rounding errors of a slice that golden
        leaves near zero are as large as those of its neighbours, and divided by nothing they
        would be the worst of all.
        """
        error, golden, count = self._sums
        floor = np.maximum(golden, count * mean_square)
        ratio = np.where(error > 0, np.inf, np.zeros_like(error))
        np.divide(error, floor, out=ratio, where=floor > 0)
        place = int(ratio.argmax())
        return math.sqrt(ratio[place]), place * self.tile
