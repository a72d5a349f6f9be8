"""The number for which a run gives the engine's tensor."""

from __future__ import annotations

from collections.abc import Callable

from shipway.compare.cause.evidence import Evidence, Values

__all__ = ["solve"]

_STEP = 1.0 / 64
_SMALLEST_STEP = 1e-4
_ROUNDS = 4
_FARTHEST = 2.0


def solve(
    evidence: Evidence, run_at: Callable[[float], Values | None], start: float
) -> tuple[float, Values | None]:
    """Find the number by Gauss-Newton, with differences for slopes.

    Args:
        evidence: Holds the tensor to come to.
        run_at: Returns what a number gives; None where it cannot be run.
        start: Where to begin.

    Returns:
        The number, and what it gives; None in its place where a run failed or nothing depends on
        the number.
    """
    place, before, step = start, run_at(start), _STEP
    for _ in range(_ROUNDS):
        after = run_at(place + step)
        if before is None or after is None:
            return place, None
        slope = (after - before) / step
        power = float((slope**2).sum())
        if not power:
            return place, None
        change = float(((evidence.actual - before) * slope).sum()) / power
        change = min(max(change, -_FARTHEST), _FARTHEST)
        place += change
        before, step = run_at(place), max(abs(change) / 16, _SMALLEST_STEP)
    return place, before
