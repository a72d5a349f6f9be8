"""What two tensors differ by at least, where another tool kept a few numbers of one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from shipway.compare.results import Metrics
from shipway.tensors import dtype_named
from shipway.trace.statistics import Statistics

__all__ = ["bound_by_facts", "facts_of"]

_MOMENTS = ("min", "max", "mean", "l2")


def facts_of(statistics: Statistics) -> dict[str, float]:
    """Return the numbers of a tensor that other tools keep too; those that are not known are absent."""
    found = {name: getattr(statistics, name) for name in (*_MOMENTS, "nan_count", "inf_count")}
    return {name: float(value) for name, value in found.items() if value is not None}


def bound_by_facts(
    golden: Mapping[str, float], actual: Mapping[str, float], count: int, dtype: str
) -> Metrics | None:
    """Return metrics whose errors are lower bounds.

    The L2 of an error is at least the difference of the L2s, at least the difference of the means
    times the root of the count, and at least that of the smallest or the largest elements, which
    the largest error is too.

    Args:
        golden: Numbers of what is taken as right: any of `min`, `max`, `mean`, `l2`, `nan_count`,
            `inf_count`.
        actual: The same of the other; both of the finite elements.
        count: Elements of each.
        dtype: Golden's dtype.

    Returns:
        None where the two sides have no number in common.

    Example:
        >>> bound_by_facts(
        ...     {"l2": 10.0, "max": 2.0}, {"l2": 10.5, "max": 2.0}, 9, "float32"
        ... ).relative_l2
        0.05
    """
    apart = dict(_apart(golden, actual))
    if not apart:
        return None
    ends = max(apart.get("min", 0.0), apart.get("max", 0.0))
    error = max(apart.get("l2", 0.0), apart.get("mean", 0.0) * math.sqrt(count), ends)
    size = golden.get("l2") or 0.0
    unequal = any(
        golden[name] != actual[name]
        for name in ("nan_count", "inf_count")
        if name in golden and name in actual
    )
    relative = error / size if size else (math.inf if error else 0.0)
    return Metrics(
        count=count,
        mismatches=int(ends > 0 and not dtype_named(dtype).is_float),
        nonfinite_mismatches=int(unequal),
        relative_l2=relative,
        worst_channel=None,
        worst_channel_index=None,
        gain=actual["l2"] / size if size and "l2" in actual else None,
        zero_mismatch=0.0,
        cosine=None,
        max_abs=ends,
        max_rel=None,
        mean_rel=None,
        rmse=error / math.sqrt(count) if count else None,
        snr_db=None,
        max_ulp=None,
    )


def _apart(golden: Mapping[str, float], actual: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name in _MOMENTS:
        if name in golden and name in actual:
            yield name, abs(golden[name] - actual[name])
