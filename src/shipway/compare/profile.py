"""Where in a tensor its error lies, and how large the parts are: heat maps and histograms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.accumulator import BLOCK_SIZE
from shipway.compare.diagnosis import join_channels
from shipway.compare.pairs import paired_blocks, wide_dtype
from shipway.compare.results import Metrics
from shipway.errors import TensorError

__all__ = ["ErrorHistogram", "channel_errors", "error_histogram", "profile_of"]

_BINS_PER_DECADE = 2
_LOWEST_DECADE = -10
_HIGHEST_DECADE = 4


def profile_of(metrics: Metrics, golden: NDArray[Any], actual: NDArray[Any]) -> tuple[float, ...]:
    """Return the relative L2 of the slices along the axis of the worst one, at most 64 numbers.

    Neighbours are joined where there are more slices; the largest of them stands for all.

    Args:
        metrics: Of the two tensors.
        golden: What is taken as right.
        actual: What is under test; same shape.
    """
    axis = metrics.worst_channel_axis
    if axis is None or not golden.ndim:
        return ()
    return join_channels(channel_errors(golden, actual, axis).tolist())


def channel_errors(golden: NDArray[Any], actual: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Return the relative L2 of every slice along one axis.

    The largest along the axes 0, 1 and the last is `Metrics.worst_channel`: as there, a slice is
    measured against its own golden values, but never against less than the RMS of the tensor.

    Args:
        golden: What is taken as right; at least one axis.
        actual: What is under test; same shape.
        axis: The axis the slices lie along; a negative one counts from the end.

    Returns:
        One number a slice; inf where a NaN or Inf is on one side only, or where golden is all zero
        and actual is not.

    Raises:
        TensorError: The shapes differ, there is no such axis, or a dtype is none of Shipway's.

    Example:
        >>> channel_errors(np.ones((2, 3)), np.array([[1.0, 1.0, 3.0]] * 2), 1).tolist()
        [0.0, 0.0, 2.0]
    """
    wide = wide_dtype(golden, actual)
    if not -golden.ndim <= axis < golden.ndim:
        raise TensorError(f"A tensor of shape {list(golden.shape)} has no axis {axis}.")
    axis %= golden.ndim
    error, energy, count = np.zeros((3, golden.shape[axis]), wide)
    odd = np.zeros(golden.shape[axis], bool)
    for block, left, right in paired_blocks(golden, actual, BLOCK_SIZE):
        finite, same = _drop_nonfinite(left, right)
        first, layout = block.along(axis)
        rows = slice(first, first + layout[1])
        odd[rows] |= ~same.reshape(layout).all(axis=(0, 2))
        count[rows] += finite.reshape(layout).sum(axis=(0, 2))
        energy[rows] += np.square(left).reshape(layout).sum(axis=(0, 2))
        error[rows] += np.square(right - left).reshape(layout).sum(axis=(0, 2))
    floor = np.maximum(energy, count * energy.sum() / max(1, count.sum()))
    ratio = np.where(error > 0, np.inf, np.zeros_like(error))
    np.divide(error, floor, out=ratio, where=floor > 0)
    ratio[odd] = np.inf
    return np.sqrt(ratio).astype(np.float64)


def _drop_nonfinite(
    golden: NDArray[Any], actual: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Zero what is not finite on both sides; return where all is finite, and what is not odd."""
    finite = np.isfinite(golden) & np.isfinite(actual)
    same = finite | (golden == actual) | (np.isnan(golden) & np.isnan(actual))
    golden[~finite] = 0
    actual[~finite] = 0
    return finite, same


@dataclass(frozen=True, slots=True)
class ErrorHistogram:
    """How many elements have an error of which size.

    Args:
        edges: Errors between which each count lies, ascending, as multiples of `scale`; two a
            decade. The first and the last count also hold whatever lies beyond.
        counts: Elements for each interval of `edges`.
        equal: Elements without any error.
        nonfinite: Elements with NaN or Inf on a side, whether they agree or not.
        scale: RMS of golden; 1 where golden is all zero.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    equal: int
    nonfinite: int
    scale: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def error_histogram(golden: NDArray[Any], actual: NDArray[Any]) -> ErrorHistogram:
    """Count |actual - golden| by size, on a logarithmic scale and relative to golden's RMS.

    Args:
        golden: What is taken as right. Any shape, any dtype of `shipway.tensors.DTYPES`.
        actual: What is under test; same shape.

    Raises:
        TensorError: The shapes differ, or a dtype is none of Shipway's.

    Example:
        >>> found = error_histogram(np.ones(4), np.array([1.0, 1.02, 1.02, np.nan]))
        >>> found.equal, found.nonfinite, found.edges[found.counts.index(2)]
        (1, 1, 0.01)
    """
    scale = _root_mean_square(golden, actual) or 1.0
    bins = (_HIGHEST_DECADE - _LOWEST_DECADE) * _BINS_PER_DECADE
    counts = np.zeros(bins, np.int64)
    equal = nonfinite = 0
    for _, left, right in paired_blocks(golden, actual, BLOCK_SIZE):
        finite, _ = _drop_nonfinite(left, right)
        errors = np.abs(right - left)
        errors = errors[errors > 0] / scale
        places = np.floor((np.log10(errors) - _LOWEST_DECADE) * _BINS_PER_DECADE).astype(np.int64)
        counts += np.bincount(places.clip(0, bins - 1), minlength=bins)
        nonfinite += finite.size - int(finite.sum())
        equal += int(finite.sum()) - errors.size
    edges = (10 ** (_LOWEST_DECADE + place / _BINS_PER_DECADE) for place in range(bins + 1))
    return ErrorHistogram(tuple(edges), tuple(counts.tolist()), equal, nonfinite, scale)


def _root_mean_square(golden: NDArray[Any], actual: NDArray[Any]) -> float:
    energy, count = wide_dtype(golden, actual)(0), 0
    for _, left, right in paired_blocks(golden, actual, BLOCK_SIZE):
        finite, _ = _drop_nonfinite(left, right)
        energy += np.einsum("i,i->", left, left)
        count += int(finite.sum())
    return float(np.sqrt(energy / max(1, count)))
