"""The latency section: percentiles a call, per-sample figures, speed-up where it may be claimed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shipway.report.charts import Bar, Chart, Mark, Row, Shape, linear_scale, log_scale
from shipway.report.data import EngineSection, Report
from shipway.report.formats import (
    ENGINE_FAILED,
    MISSING,
    TOO_SMALL,
    decimals_for,
    format_count,
    format_fixed,
)

__all__ = ["LatencyRow", "LatencySection", "is_quiet", "lay_out_latency"]


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One engine at one batch size.

    Args:
        label: Engine and precision.
        golden: Whether the speed-ups are against this one.
        batch: Samples a call; "none" where the model has no batch dimension.
        p50: Milliseconds a call, as are p90, p99 and cpu.
        interval: 95 % confidence interval of p50; "" where there were too few rounds.
        p90: "n too small" where too few calls were made for it, as is p99.
        p99: See p90.
        sample: Milliseconds a sample: the median over the batch size.
        throughput: Samples a second; calls a second without a batch dimension.
        speedup: Golden's median over this one's; "noisy" where either cannot be trusted.
        cpu: Process CPU time a call.
        threads: Threads inside one operator.
        calls: Calls measured.
        warmup: Calls before measuring, and whether the machine had settled.
        noise: "quiet", "noisy" or "too noisy", with the spread in percent; "disturbed" where
            another engine was still busy.
        quiet: Whether the noise is no reason for doubt.
        load: Load average before and after.
    """

    label: str
    golden: bool
    batch: str
    p50: str
    interval: str
    p90: str
    p99: str
    sample: str
    throughput: str
    speedup: str
    cpu: str
    threads: str
    calls: str
    warmup: str
    noise: str
    quiet: bool
    load: str


@dataclass(frozen=True, slots=True)
class LatencySection:
    """Everything the latency section shows.

    Args:
        unit: What throughput counts: "samples", or "calls" where no model has a batch dimension.
        groups: One row an engine, grouped by batch size.
        missing: Label of each engine without a measurement, and why.
        noisy: Whether some row was not quiet.
        charts: One a batch size.
    """

    unit: str
    groups: tuple[tuple[LatencyRow, ...], ...]
    missing: tuple[tuple[str, str], ...]
    noisy: bool
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class _Decimals:
    ms: int
    sample: int
    cpu: int
    rate: int


_SHAPES: dict[str, Shape] = {"p50_ms": "dot", "p90_ms": "ring", "p99_ms": "tick"}

_LINEAR_RANGE = 20
"""Largest over smallest value up to which an axis from zero still tells the engines apart."""

_Timed = list[tuple[EngineSection, dict[str, Any]]]


def lay_out_latency(report: Report) -> LatencySection | None:
    """Return the section, or None where nothing was timed."""
    timed = [(engine, bench) for engine in report.engines for bench in engine.bench]
    if not timed:
        return None
    decimals = _choose_decimals([bench for _, bench in timed])
    batches = sorted({bench["batch"] for _, bench in timed})
    by_batch = [[(e, b) for e, b in timed if b["batch"] == batch] for batch in batches]
    return LatencySection(
        unit="samples" if any(batches) else "calls",
        groups=tuple(_rows(group, decimals) for group in by_batch),
        missing=tuple(
            (engine.label, ENGINE_FAILED if engine.error else "not timed")
            for engine in report.engines
            if not engine.bench
        ),
        noisy=not all(is_quiet(bench) for _, bench in timed),
        charts=tuple(_plot(group, decimals) for group in by_batch),
    )


def _rows(timed: _Timed, decimals: _Decimals) -> tuple[LatencyRow, ...]:
    golden = next((bench for engine, bench in timed if engine.golden), None)
    return tuple(_row(engine, bench, golden, decimals) for engine, bench in timed)


def _choose_decimals(benches: list[dict[str, Any]]) -> _Decimals:
    medians = [bench["latency"]["p50_ms"] for bench in benches]
    return _Decimals(
        ms=decimals_for(medians),
        sample=decimals_for(_per_sample(bench) for bench in benches),
        cpu=decimals_for(bench["cpu_ms"] for bench in benches),
        rate=decimals_for(bench["throughput"] for bench in benches),
    )


def _per_sample(bench: dict[str, Any]) -> float | None:
    """Median milliseconds a sample; None where the model has no batch dimension."""
    return bench["latency"]["p50_ms"] / bench["batch"] if bench["batch"] else None


def _row(
    engine: EngineSection,
    bench: dict[str, Any],
    golden: dict[str, Any] | None,
    decimals: _Decimals,
) -> LatencyRow:
    latency = bench["latency"]
    settled = "" if bench["warmup_stable"] else ", unsettled"
    return LatencyRow(
        label=engine.label,
        golden=engine.golden,
        batch=format_count(bench["batch"]) if bench["batch"] else "none",
        p50=format_fixed(latency["p50_ms"], decimals.ms),
        interval=_interval(latency, decimals.ms),
        p90=_percentile(latency["p90_ms"], decimals.ms),
        p99=_percentile(latency["p99_ms"], decimals.ms),
        sample=format_fixed(_per_sample(bench), decimals.sample),
        throughput=format_fixed(bench["throughput"], decimals.rate),
        speedup=MISSING if engine.golden else _speedup(bench, golden),
        cpu=format_fixed(bench["cpu_ms"], decimals.cpu),
        threads=format_count(bench["threads"]),
        calls=format_count(latency["count"]),
        warmup=f"{format_count(bench['warmup_calls'])}{settled}",
        noise=_noise(bench),
        quiet=is_quiet(bench),
        load=f"{bench['load_before']:.1f} / {bench['load_after']:.1f}",
    )


def _percentile(value_ms: float | None, decimals: int) -> str:
    return TOO_SMALL if value_ms is None else format_fixed(value_ms, decimals)


def is_quiet(bench: dict[str, Any]) -> bool:
    """Return whether the machine was calm enough for the figures to be set against others."""
    return bool(bench["noise"] == "quiet" and bench["undisturbed"])


def _interval(latency: dict[str, Any], decimals: int) -> str:
    low, high = latency["p50_low_ms"], latency["p50_high_ms"]
    if low is None or high is None:
        return ""
    return f"{format_fixed(low, decimals)} to {format_fixed(high, decimals)}"


def _noise(bench: dict[str, Any]) -> str:
    latency = bench["latency"]
    parts = [str(bench["noise"])]
    if latency["p50_ms"]:
        parts.append(f"{100 * latency['iqr_ms'] / latency['p50_ms']:.0f}\N{NO-BREAK SPACE}%")
    if not bench["undisturbed"]:
        parts.append("disturbed")
    return ", ".join(parts)


def _speedup(bench: dict[str, Any], golden: dict[str, Any] | None) -> str:
    if golden is None or not bench["latency"]["p50_ms"]:
        return MISSING
    if not (is_quiet(bench) and is_quiet(golden)):
        return "noisy"
    return f"{golden['latency']['p50_ms'] / bench['latency']['p50_ms']:.2f}"


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _plot(timed: _Timed, decimals: _Decimals) -> Chart:
    every = [value for _, bench in timed for value in _percentiles(bench)]
    low, high = min(every), max(every)
    is_wide = low > 0 and high / low > _LINEAR_RANGE
    scale = log_scale(every, plain=True) if is_wide else linear_scale(0.0, high)
    rows = []
    for engine, bench in timed:
        latency = bench["latency"]
        marks = [
            Mark(scale.place(latency[key]), shape)
            for key, shape in _SHAPES.items()
            if latency[key] is not None
        ]
        found = _percentiles(bench)
        spread = Bar(scale.place(found[0]), scale.place(found[-1]), "interval")
        words = " / ".join(
            MISSING if latency[key] is None else format_fixed(latency[key], decimals.ms)
            for key in _SHAPES
        )
        rows.append(Row(engine.label, words, tuple(marks), (spread,), golden=engine.golden))
    batch = timed[0][1]["batch"]
    size = f"batch {batch}" if batch else "one call"
    return Chart(
        title=f"Latency of {size}, ms{', log scale' if is_wide else ''}: p50 / p90 / p99",
        rows=tuple(rows),
        ticks=scale.ticks,
        legend=(("dot", "p50"), ("ring", "p90"), ("tick", "p99")),
    )


def _percentiles(bench: dict[str, Any]) -> list[float]:
    latency = bench["latency"]
    return _present([latency["p50_ms"], latency["p90_ms"], latency["p99_ms"]])
