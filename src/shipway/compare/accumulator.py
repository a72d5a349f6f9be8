"""Sums over pairs of tensors, taken block by block, and the metrics that follow from them.

Sums are kept in float64, in long double where a dtype has 8 bytes, so that neither the squares of
the largest values overflow nor a large integer loses its last digits. No tensor is ever copied
whole: what is held besides the two is a few blocks that fit the cache, and three sums a slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.blocks import Block, SliceSums, cut
from shipway.compare.divergence import RowDivergence
from shipway.compare.pairs import check_shapes
from shipway.compare.results import Metrics
from shipway.compare.ulp import max_ulp, narrower
from shipway.tensors import DType, dtype_of

__all__ = ["BLOCK_SIZE", "Accumulator"]

BLOCK_SIZE = 1 << 15
"""Elements taken at a time: four float64 buffers of this size fit a second-level cache."""

_LOWEST_EXPONENT = -1100
_EXPONENTS = 2200  # binary exponents of float64, denormals included, lie within
_ZERO_FLOOR_BITS = 10


@dataclass(slots=True)
class _Totals:
    """Counts, sums and maxima over elements; the sums are float64 or long double."""

    count: int = 0
    finite: int = 0
    mismatches: int = 0
    nonfinite_mismatches: int = 0
    golden_nonzero: int = 0
    error: Any = 0.0
    energy: Any = 0.0
    actual_energy: Any = 0.0
    product: Any = 0.0
    fourth_power: Any = 0.0
    relative: Any = 0.0
    max_abs: Any = 0.0
    max_rel: Any = 0.0
    max_ulp: int = 0
    max_square: Any = 0.0

    def merge(self, other: _Totals) -> None:
        """Add counts and sums; keep the larger maximum."""
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            is_max = entry.name.startswith("max_")
            setattr(self, entry.name, max(mine, theirs) if is_max else mine + theirs)


@dataclass(slots=True)
class Accumulator:
    """Collects what the metrics need, over one pair of tensors or over several that mean the same.

    `add` pairs of tensors, or `merge` accumulators; `metrics` is then that of all elements
    together. Shapes may differ from pair to pair.

    Args:
        block_size: Elements taken at a time. No result depends on it.
    """

    block_size: int = BLOCK_SIZE
    _totals: _Totals = field(default_factory=_Totals)
    _slices: dict[int, SliceSums] = field(default_factory=dict)
    _lone_zeros: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_EXPONENTS, np.int64))
    _in_floats: bool = True
    _divergence: RowDivergence = field(default_factory=RowDivergence)

    def add(self, golden: NDArray[Any], actual: NDArray[Any]) -> None:
        """Take in one pair of tensors.

        Raises:
            TensorError: The shapes differ, or a dtype is not in `shipway.tensors.DTYPES`.
        """
        check_shapes(golden, actual)
        wide = any(dtype_of(side.dtype).numpy.itemsize == 8 for side in (golden, actual))
        step_dtype = narrower(golden.dtype, actual.dtype)
        self._in_floats = self._in_floats and step_dtype is not None
        self._totals.count += golden.size
        if not golden.size:
            return
        golden, actual = np.atleast_1d(golden, actual)
        if step_dtype is None or golden.shape[-1] == 1:
            self._divergence.give_up()
        for axis in {0, 1, golden.ndim - 1} & set(range(golden.ndim)):
            self._slices.setdefault(axis, SliceSums(golden.shape[axis]))
        buffer_size = min(golden.size, self.block_size)
        buffers = np.empty((4, buffer_size), np.longdouble if wide else np.float64)
        with np.errstate(all="ignore"):
            for block in cut(golden.shape, self.block_size):
                self._add_block(block, golden, actual, buffers[:, : block.size], step_dtype)

    def _add_block(
        self,
        block: Block,
        golden: NDArray[Any],
        actual: NDArray[Any],
        buffers: NDArray[Any],
        step_dtype: DType | None,
    ) -> None:
        """Add one block; `buffers` holds golden, actual, their difference, and a scratch row."""
        wide_golden, wide_actual, difference, scratch = buffers
        np.copyto(wide_golden.reshape(block.shape), block.of(golden), casting="unsafe")
        np.copyto(wide_actual.reshape(block.shape), block.of(actual), casting="unsafe")
        np.subtract(wide_actual, wide_golden, out=difference)
        finite = None
        if not np.isfinite(_dot(difference, difference)):
            finite = self._drop_nonfinite(wide_golden, wide_actual)
            self._divergence.give_up()
            np.subtract(wide_actual, wide_golden, out=difference)
        self._add_slices(block, difference, wide_golden, finite)
        self._add_zeros(wide_golden, wide_actual, difference)
        self._divergence.add(block, golden.shape[-1], wide_golden, wide_actual, scratch)
        self._add_sums(buffers)
        self._totals.finite += block.size if finite is None else int(finite.sum())
        if step_dtype is not None and self._totals.mismatches:
            pair = (block.of(golden), block.of(actual))
            if finite is not None:
                kept = finite.reshape(block.shape)
                pair = (np.where(kept, pair[0], 0), np.where(kept, pair[1], 0))
            self._totals.max_ulp = max(self._totals.max_ulp, max_ulp(*pair, step_dtype))

    def _drop_nonfinite(self, golden: NDArray[Any], actual: NDArray[Any]) -> NDArray[np.bool_]:
        """Zero every place where either side is NaN or Inf; return where both are finite."""
        finite: NDArray[np.bool_] = np.isfinite(golden) & np.isfinite(actual)
        same = (golden == actual) | (np.isnan(golden) & np.isnan(actual))
        unequal = int(np.count_nonzero(~finite & ~same))
        self._totals.nonfinite_mismatches += unequal
        self._totals.mismatches += unequal
        golden[~finite] = 0
        actual[~finite] = 0
        return finite

    def _add_slices(
        self,
        block: Block,
        difference: NDArray[Any],
        golden: NDArray[Any],
        finite: NDArray[np.bool_] | None,
    ) -> None:
        for axis, sums in self._slices.items():
            first, layout = block.along(axis)
            sums.add(
                first,
                _squares_by_slice(difference, layout),
                _squares_by_slice(golden, layout),
                layout[0] * layout[2] if finite is None else _squares_by_slice(finite * 1, layout),
            )

    def _add_zeros(
        self, golden: NDArray[Any], actual: NDArray[Any], difference: NDArray[Any]
    ) -> None:
        """Count non-zero golden values, and file what faces a lone zero by its binary exponent.

        Only the magnitude against the golden RMS says whether a lone zero is a rounding error, and
        that RMS is known when the last block is in.
        """
        golden_nonzero = int(np.count_nonzero(golden))
        self._totals.golden_nonzero += golden_nonzero
        if golden_nonzero == golden.size == np.count_nonzero(actual):
            return
        lone = (golden == 0) ^ (actual == 0)
        exponents = np.frexp(difference[lone])[1] - _LOWEST_EXPONENT
        self._lone_zeros += np.bincount(exponents, minlength=_EXPONENTS)

    def _add_sums(self, buffers: NDArray[Any]) -> None:
        """Add what needs single elements; this overwrites every buffer but golden's."""
        golden, actual, difference, scratch = buffers
        totals = self._totals
        totals.energy += _dot(golden, golden)
        totals.actual_energy += _dot(actual, actual)
        totals.product += _dot(golden, actual)
        np.multiply(golden, golden, out=scratch)
        totals.fourth_power += _dot(scratch, scratch)
        totals.max_square = max(totals.max_square, scratch.max())
        unequal = int(np.count_nonzero(difference))
        totals.mismatches += unequal
        if not unequal:
            return
        totals.error += _dot(difference, difference)
        np.abs(difference, out=difference)
        totals.max_abs = max(totals.max_abs, difference.max())
        magnitude = np.abs(golden, out=actual)
        np.divide(difference, magnitude, out=scratch)
        scratch[magnitude == 0] = 0
        totals.max_rel = max(totals.max_rel, scratch.max())
        totals.relative += scratch.sum()

    def merge(self, other: Accumulator) -> None:
        """Add what another accumulator collected."""
        self._totals.merge(other._totals)
        self._lone_zeros += other._lone_zeros
        self._in_floats = self._in_floats and other._in_floats
        self._divergence.merge(other._divergence)
        for axis, sums in other._slices.items():
            self._slices.setdefault(axis, SliceSums(0)).merge(sums)

    def metrics(self) -> Metrics:
        """Return the metrics of everything added so far."""
        totals = self._totals
        if not totals.finite:
            return _no_metrics(totals)
        mean_square = totals.energy / totals.finite
        worst, axis, index = self._worst_slice(mean_square)
        return Metrics(
            count=totals.count,
            mismatches=totals.mismatches,
            nonfinite_mismatches=totals.nonfinite_mismatches,
            relative_l2=_relative(totals.error, totals.energy),
            worst_channel=worst,
            worst_channel_index=index,
            gain=_ratio(totals.product, totals.energy),
            zero_mismatch=self._zero_mismatches(mean_square) / totals.finite,
            cosine=_cosine(totals),
            max_abs=float(totals.max_abs),
            max_rel=float(totals.max_rel) if totals.golden_nonzero else None,
            mean_rel=_ratio(totals.relative, totals.golden_nonzero),
            rmse=float(np.sqrt(totals.error / totals.finite)),
            snr_db=_decibels(totals.energy, totals.error),
            max_ulp=int(totals.max_ulp) if self._in_floats else None,
            worst_channel_axis=axis,
            effective_count=_ratio(totals.energy**2, totals.fourth_power),
            psnr_db=_decibels(totals.max_square * totals.finite, totals.error),
            kl_divergence=self._divergence.mean,
        )

    def squares(self) -> tuple[NDArray[Any], NDArray[Any], int]:
        """Return the squared error, squared golden and count of what was compared, as one slice."""
        totals = self._totals
        return np.atleast_1d(totals.error), np.atleast_1d(totals.energy), totals.finite

    @property
    def golden_rms(self) -> float:
        """Root mean square of the golden elements that were compared; 0 where there are none."""
        return float(np.sqrt(self._totals.energy / max(1, self._totals.finite)))

    def _worst_slice(self, mean_square: Any) -> tuple[float, int, int]:
        found = ((axis, *sums.worst(mean_square)) for axis, sums in sorted(self._slices.items()))
        axis, worst, index = max(found, key=lambda entry: entry[1])
        return worst, axis, index

    def _zero_mismatches(self, mean_square: Any) -> int:
        if not mean_square:
            return int(self._lone_zeros.sum())
        floor = int(np.frexp(np.sqrt(mean_square))[1]) - _ZERO_FLOOR_BITS + 1
        return int(self._lone_zeros[max(0, floor - _LOWEST_EXPONENT) :].sum())


def _dot(left: NDArray[Any], right: NDArray[Any]) -> Any:
    # Not np.dot: BLAS starts threads, whose number would change the last digits.
    return np.einsum("i,i->", left, right)


def _squares_by_slice(values: NDArray[Any], layout: tuple[int, int, int]) -> NDArray[Any]:
    """Return the sum of squares of each slice; `layout` is that of `Block.along`."""
    if layout[1] == 1:
        return np.atleast_1d(_dot(values, values))
    cube = values.reshape(layout)
    sums: NDArray[Any] = np.einsum("osi,osi->s", cube, cube)
    return sums


def _ratio(numerator: Any, denominator: Any) -> float | None:
    return float(numerator / denominator) if denominator else None


def _relative(error: Any, energy: Any) -> float:
    """Square root of the ratio; inf where there is an error but nothing to measure it against."""
    if not energy:
        return math.inf if error else 0.0
    return float(np.sqrt(error / energy))


def _cosine(totals: _Totals) -> float:
    """Two all-zero tensors point the same way; one all-zero tensor points nowhere."""
    if not totals.energy or not totals.actual_energy:
        return float(totals.energy == totals.actual_energy)
    norms = np.sqrt(totals.energy) * np.sqrt(totals.actual_energy)
    return min(1.0, max(-1.0, float(totals.product / norms)))


def _decibels(signal: Any, noise: Any) -> float | None:
    if not signal or not noise:
        return None
    return 10 * float(np.log10(signal) - np.log10(noise))


def _no_metrics(totals: _Totals) -> Metrics:
    """Metrics of a tensor without an element that is finite on both sides."""
    return Metrics(
        count=totals.count,
        mismatches=totals.mismatches,
        nonfinite_mismatches=totals.nonfinite_mismatches,
        relative_l2=None,
        worst_channel=None,
        worst_channel_index=None,
        gain=None,
        zero_mismatch=None,
        cosine=None,
        max_abs=None,
        max_rel=None,
        mean_rel=None,
        rmse=None,
        snr_db=None,
        max_ulp=None,
    )
