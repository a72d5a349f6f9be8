"""Quantiles of the error, exact, in a few passes over blocks that fit the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.pairs import paired_blocks
from shipway.errors import UsageError

__all__ = ["error_quantiles"]

_BLOCK_SIZE = 1 << 17  # large beside the 65536 counts that every block is added to
_DIGIT_BITS = 16
_WORD_BITS = 64
_ENOUGH = 1 << 17
"""Errors that are sorted at once when so few are left to choose from."""

Blocks = Callable[[], Iterator[NDArray[Any]]]


def error_quantiles(
    golden: NDArray[Any], actual: NDArray[Any], levels: Sequence[float] = (0.5, 0.9, 0.99)
) -> tuple[float, ...] | None:
    """Return quantiles of |actual - golden|: exact, without a copy of either tensor.

    The errors are float64 numbers, which sort like the integers that have the same bits. One pass
    counts their upper 16 bits and so finds the range that holds a quantile; each further pass
    narrows it by 16 bits, until what lies in it can be sorted. Two passes are the rule, five the
    most.

    Args:
        golden: What is taken as right. Any shape, any dtype of `shipway.tensors.DTYPES`.
        actual: What is under test. Same shape; its dtype may differ.
        levels: Which quantiles, each in [0, 1]; 0.5 is the median.

    Returns:
        One number a level, between neighbours interpolated linearly; None where no element is
        finite on both sides. Elements that are not are left out.

    Raises:
        TensorError: The shapes differ, or a dtype is none of Shipway's.
        UsageError: A level outside [0, 1].

    Example:
        >>> error_quantiles(np.zeros(5), np.array([0.0, 1.0, 2.0, 3.0, 4.0]), (0.5, 0.9))
        (2.0, 3.6)

    Source: numpy.quantile's default, method 7 of Hyndman and Fan, "Sample Quantiles in Statistical
        Packages", 1996.
    """
    wrong = [level for level in levels if not 0 <= level <= 1]
    if wrong:
        raise UsageError(f"There is no quantile {wrong[0]}.", hint="A level lies in 0 to 1.")

    def blocks() -> Iterator[NDArray[Any]]:
        return _errors_by_block(golden, actual)

    first = _Digit(blocks, 0, 0)
    if not first.total:
        return None
    places = [level * (first.total - 1) for level in levels]
    ranks = {rank for place in places for rank in (int(place), -int(-place // 1))}
    found = {rank: first.value(rank) for rank in sorted(ranks)}
    return tuple(
        _between(found[int(place)], found[-int(-place // 1)], place % 1) for place in places
    )


def _errors_by_block(golden: NDArray[Any], actual: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Yield |actual - golden| block by block, in C order, elements not finite on both sides left out.

    Subtracted in float64, in long double where a dtype has 8 bytes, then rounded to float64. What
    is yielded is overwritten by the next block.

    Raises:
        TensorError: The shapes differ, or a dtype is none of Shipway's.
    """
    for _, left, right in paired_blocks(golden, actual, _BLOCK_SIZE):
        with np.errstate(all="ignore"):
            np.abs(np.subtract(right, left, out=right), out=right)
        # A wide type holds the difference of any two finite numbers.
        kept = np.isfinite(right)
        errors = right if kept.all() else right[kept]
        yield errors.astype(np.float64, copy=False)


class _Digit:
    """How the errors that share their leading bits are spread over the next 16 bits."""

    def __init__(self, blocks: Blocks, prefix: int, known_bits: int) -> None:
        self._blocks, self._prefix, self._known_bits = blocks, prefix, known_bits
        self._below: dict[int, _Digit] = {}
        self._sorted: dict[int, NDArray[np.float64]] = {}
        counts = np.zeros(1 << _DIGIT_BITS, np.int64)
        shift = np.uint64(_WORD_BITS - known_bits - _DIGIT_BITS)
        mask = np.uint64((1 << _DIGIT_BITS) - 1)
        for words in self._words(prefix, known_bits):
            digits = ((words >> shift) & mask).astype(np.int64)
            counts += np.bincount(digits, minlength=counts.size)
        self._ends = np.cumsum(counts)
        self.total = int(self._ends[-1])

    def _words(self, prefix: int, known_bits: int) -> Iterator[NDArray[np.uint64]]:
        """Yield the bits of the errors whose first `known_bits` are `prefix`."""
        for errors in self._blocks():
            words = errors.view(np.uint64)
            if known_bits:
                words = words[words >> np.uint64(_WORD_BITS - known_bits) == np.uint64(prefix)]
            yield words

    def value(self, rank: int) -> float:
        """Return the error at a place in ascending order, 0 the smallest."""
        digit = int(np.searchsorted(self._ends, rank, side="right"))
        start = int(self._ends[digit - 1]) if digit else 0
        prefix, known_bits = (self._prefix << _DIGIT_BITS) | digit, self._known_bits + _DIGIT_BITS
        if known_bits == _WORD_BITS:
            return float(np.array(prefix, np.uint64).view(np.float64))
        if int(self._ends[digit]) - start <= _ENOUGH:
            if digit not in self._sorted:
                words = np.concatenate([*self._words(prefix, known_bits)])
                self._sorted[digit] = np.sort(words).view(np.float64)
            return float(self._sorted[digit][rank - start])
        if digit not in self._below:
            self._below[digit] = _Digit(self._blocks, prefix, known_bits)
        return self._below[digit].value(rank - start)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
