"""Order statistics of latencies: values that were measured, and how far to trust them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from shipway.bench.results import Latency

__all__ = ["median_interval", "nearest_rank", "noise_of", "samples_needed", "summarize_latency"]

_NOISY = 0.10
_TOO_NOISY = 0.25
_MS = 1e-6


def nearest_rank(ordered: Sequence[float], quantile: float) -> float:
    """Return the smallest value that at least `quantile` of all values do not exceed.

    Args:
        ordered: Values in ascending order, at least one.
        quantile: In (0, 1].

    Example:
        >>> nearest_rank([10, 20, 30, 40], 0.5), nearest_rank([10, 20, 30, 40], 0.9)
        (20, 40)
    """
    # 0.07 * 100 is a little more than 7 in binary; the rank is 7 all the same.
    rank = math.ceil(round(quantile * len(ordered), 9))
    return ordered[max(1, rank) - 1]


@functools.cache
def samples_needed(quantile: float, confidence: float = 0.99) -> int:
    """Return how many samples a percentile needs before the measured one can be relied on.

    With that many, it is unlikely (1 - confidence) that fewer than two of them lie above the true
    percentile, so one outlier does not make it.

    Example:
        >>> samples_needed(0.90), samples_needed(0.99)
        (64, 662)

    Source: early stopping in MLPerf LoadGen, which asks for the same numbers.
    """
    count = 1
    while quantile**count + count * (1 - quantile) * quantile ** (count - 1) > 1 - confidence:
        count += 1
    return count


def median_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return a confidence interval of the median: two of the values, whatever their distribution.

    Args:
        values: Independent measurements, in any order.
        confidence: The interval holds the median with at least this probability.

    Returns:
        None where there are too few values for any interval (below six, for 95 %).

    Example:
        >>> median_interval([5, 1, 2, 4, 3, 6])
        (1, 6)

    Source: the sign test: how many of n values lie below the median is Binomial(n, 1/2).
    """
    ordered, count = sorted(values), len(values)
    outside, ways, rank = 0, 1, 0
    while outside + ways <= (1 - confidence) / 2 * 2**count:
        outside += ways
        rank += 1
        ways = ways * (count - rank + 1) // rank
    return (ordered[rank - 1], ordered[count - rank]) if rank else None


def noise_of(latency: Latency) -> Literal["quiet", "noisy", "too noisy"]:
    """Judge the spread of the latencies by the interquartile range over the median."""
    spread = latency.iqr_ms / max(latency.p50_ms, _MS)
    if spread > _TOO_NOISY:
        return "too noisy"
    return "noisy" if spread > _NOISY else "quiet"


def summarize_latency(samples_ns: Sequence[int], round_medians_ns: Sequence[float] = ()) -> Latency:
    """Return latencies as order statistics.

    The interval of the median comes from the medians of rounds, not from single calls: calls that
    follow each other share what the machine does at that moment, so that their number says little
    about the error.

    Args:
        samples_ns: Wall time of each call in nanoseconds, in any order; at least one.
        round_medians_ns: Median wall time of each round, where the calls were made in rounds.
    """
    ordered = (np.sort(np.asarray(samples_ns, np.float64)) * _MS).tolist()
    p50 = nearest_rank(ordered, 0.5)
    interval = median_interval([median * _MS for median in round_medians_ns])
    low, high = (min(interval[0], p50), max(interval[1], p50)) if interval else (None, None)
    return Latency(
        count=len(ordered),
        min_ms=ordered[0],
        p50_ms=p50,
        p90_ms=_percentile(ordered, 0.90),
        p99_ms=_percentile(ordered, 0.99),
        max_ms=ordered[-1],
        mean_ms=math.fsum(ordered) / len(ordered),
        iqr_ms=nearest_rank(ordered, 0.75) - nearest_rank(ordered, 0.25),
        p50_low_ms=low,
        p50_high_ms=high,
    )


def _percentile(ordered: Sequence[float], quantile: float) -> float | None:
    return nearest_rank(ordered, quantile) if len(ordered) >= samples_needed(quantile) else None
