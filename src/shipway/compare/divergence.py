"""Kullback-Leibler divergence of rows that are probability distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.blocks import Block

__all__ = ["RowDivergence"]

_SUM_TOLERANCE = 0.01
"""A thousand bfloat16 that should add up to 1 may all be rounded the same way."""


class RowDivergence:
    """Mean over rows of sum p log(p / q), where golden's rows p are distributions; else nothing.

    Rows lie along the last axis. As long as no row contradicts it, golden is held to be made of
    distributions; the first one that does ends the work, so that other tensors cost one look.
    """

    def __init__(self) -> None:
        """Begin without a row."""
        self._possible = True
        self._rows = 0
        self._total: Any = 0.0
        self._row_sum: Any = 0.0

    def give_up(self) -> None:
        """Declare that golden is no set of distributions: integers, NaN, a single outcome."""
        self._possible = False

    def add(
        self,
        block: Block,
        row_length: int,
        golden: NDArray[Any],
        actual: NDArray[Any],
        scratch: NDArray[Any],
    ) -> None:
        """Take in one block of a tensor, in C order.

        Args:
            block: Which part of the tensor it is.
            row_length: Size of the tensor's last axis.
            golden: Its golden values in float64 or wider, flat.
            actual: The same of the side under test.
            scratch: Overwritten.
        """
        if not self._possible:
            return
        first, layout = block.along(len(block.lead) + len(block.shape) - 1)
        sums = golden.reshape(layout[:2]).sum(axis=1)
        if first:
            sums += self._row_sum
        self._row_sum = sums[-1]
        is_end = first + layout[1] == row_length
        if golden.min() < 0 or (is_end and np.abs(sums - 1).max() > _SUM_TOLERANCE):
            self._possible = False
            return
        self._rows += sums.size if is_end else 0
        self._total += _relative_entropy(golden, actual, scratch)

    def merge(self, other: RowDivergence) -> None:
        """Add the rows of another tensor that means the same."""
        self._possible = self._possible and other._possible
        self._rows += other._rows
        self._total += other._total

    @property
    def mean(self) -> float | None:
        """The mean over all rows; None where golden is no set of distributions, or has no row."""
        return float(self._total / self._rows) if self._possible and self._rows else None


def _relative_entropy(golden: NDArray[Any], actual: NDArray[Any], scratch: NDArray[Any]) -> Any:
    """Sum of p log(p / q): 0 where p is 0, inf where q is no chance at all and p is one."""
    if actual.min() <= 0 and (actual <= 0)[golden > 0].any():
        return np.inf
    np.divide(golden, actual, out=scratch)
    scratch[golden == 0] = 1
    np.log(scratch, out=scratch)
    return np.einsum("i,i->", golden, scratch)
