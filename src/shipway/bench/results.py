"""What a benchmark measured, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BenchResult", "Latency"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time of one call, in milliseconds a batch.

    Percentiles are order statistics: values that were measured, never interpolated. One is None
    where there are too few samples for it (n too small): p90 needs 64, p99 needs 662.

    Args:
        count: Calls measured.
        min_ms: Fastest call.
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        max_ms: Slowest call.
        mean_ms: Mean.
        iqr_ms: Third minus first quartile.
        p50_low_ms: Lower end of the 95 % confidence interval of the median; None below six rounds.
        p50_high_ms: Upper end.
    """

    count: int
    min_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float
    mean_ms: float
    iqr_ms: float
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Speed of one engine at one batch size.

    Args:
        engine: Engine name.
        batch: Samples a call; 0 where the model has no batch dimension.
        latency: Wall time a call (a batch).
        cpu_ms: Process CPU time a call, all threads together; the mean over all calls.
        throughput: Samples a second, from the median latency; batches a second where batch is 0.
        warmup_calls: Calls before measuring began.
        warmup_stable: Whether the warm-up ended because three windows agreed within 10 %.
        noise: "quiet", "noisy" (IQR over median above 10 %) or "too noisy" (above 25 %: do not rank).
        threads: Threads inside one operator, as the session reports it.
        effective: `session.effective`.
        load_before: Load average when measuring began.
        load_after: Load average when it ended.
        undisturbed: Whether the other engines' threads were idle before each round began.
        samples_ns: Wall time of every call, int64, in the order of the calls; not in the JSON.
    """

    engine: str
    batch: int
    latency: Latency
    cpu_ms: float
    throughput: float
    warmup_calls: int
    warmup_stable: bool
    noise: str
    threads: int
    effective: dict[str, str]
    load_before: float
    load_after: float
    undisturbed: bool = True
    samples_ns: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        data = asdict(replace(self, samples_ns=None))
        del data["samples_ns"]
        return data
