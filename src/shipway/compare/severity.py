"""How far beyond its limits a tensor is, in one number."""

from __future__ import annotations

import math

from shipway.compare.results import Metrics
from shipway.compare.verdict import Limits, judge
from shipway.tensors import dtype_named

__all__ = ["severity_of"]


def severity_of(metrics: Metrics, dtype: str, limits: Limits) -> float:
    """Return the largest of the metrics as a multiple of its limit; above 1 a limit is broken.

    Args:
        metrics: Of one tensor.
        dtype: Golden's dtype.
        limits: The limits in force.

    Returns:
        Infinity where NaN or Inf differ, or integers do.
    """
    if not dtype_named(dtype).is_float:
        return math.inf if metrics.mismatches else 0.0
    if metrics.nonfinite_mismatches or (metrics.count and metrics.relative_l2 is None):
        return math.inf
    ratios = (
        (metrics.relative_l2 or 0.0) / limits.relative_l2,
        (metrics.worst_channel or 0.0) / limits.worst_channel,
        (metrics.zero_mismatch or 0.0) / limits.zero_mismatch,
    )
    worst = max(ratios)
    if worst <= 1 and not judge(metrics, dtype, limits).passed:
        # Only the gain is left, and it counts only where it is no accident.
        return abs((metrics.gain or 1.0) - 1) / limits.gain
    return worst
