"""The verdict in one line, and one row of figures an engine: what the terminal and the page share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shipway.report.data import Check, EngineSection, Report
from shipway.report.formats import (
    decimals_for,
    format_count,
    format_fixed,
    format_percent,
    format_scientific,
)
from shipway.report.latency import is_quiet
from shipway.report.output_error import worst_relative_l2

__all__ = [
    "EngineRow",
    "Headline",
    "Summary",
    "pick_batch",
    "summarize",
    "write_headline",
]


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict.

    Args:
        passed: Whether it ships.
        text: "PASS: ships", or "FAIL: " and why.
        scope: How many checks and engines stand behind it.
        failed: The checks that were missed.
        errors: Label and message of each engine that failed, unless a failed check tells it.
        not_measured: What nothing was found out about, so that a pass is not read as more than it is.
    """

    passed: bool
    text: str
    scope: str
    failed: tuple[Check, ...]
    errors: tuple[tuple[str, str], ...]
    not_measured: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine in the summary; figures it does not have are written as missing."""

    name: str
    precision: str
    golden: bool
    correct: str
    total: str
    top1_percent: str
    flips: str
    relative_l2: str
    p50_ms: str
    throughput: str
    noise: str
    error: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows, and which columns hold anything.

    Args:
        batch: The batch size `p50_ms` and `throughput` are for; None where nothing was timed, 0
            where the model has no batch dimension.
        has_accuracy: Some engine was evaluated.
        has_errors: Some engine was compared with golden.
        rows: One an engine, in the order of the report.
    """

    batch: int | None
    has_accuracy: bool
    has_errors: bool
    rows: tuple[EngineRow, ...]


def write_headline(report: Report) -> Headline:
    """Return the verdict of the report in words."""
    failed = tuple(check for check in report.checks if not check.passed)
    told = {check.detail for check in failed}
    broken = [(engine.label, engine.error) for engine in report.engines if engine.error]
    return Headline(
        passed=report.passed,
        text="PASS: ships" if report.passed else f"FAIL: {_why(report, failed, len(broken))}",
        scope=f"{_plural(len(report.checks), 'check')}, {_plural(len(report.engines), 'engine')}",
        failed=failed,
        errors=tuple((label, error) for label, error in broken if error not in told),
        not_measured=tuple(_not_measured(report)),
    )


def _why(report: Report, failed: tuple[Check, ...], broken: int) -> str:
    reasons = []
    if failed:
        reasons.append(f"{len(failed)} of {_plural(len(report.checks), 'check')} missed")
    if broken:
        reasons.append(f"{_plural(broken, 'engine')} failed")
    if not report.checks:
        reasons.append("nothing was checked")
    return ", ".join(reasons)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _not_measured(report: Report) -> Iterator[str]:
    if report.proof is None:
        yield "proof of the export"
    for what, found in (
        ("output error", [engine.comparison for engine in report.engines]),
        ("accuracy", [engine.evaluation for engine in report.engines]),
        ("latency", [engine.bench for engine in report.engines]),
    ):
        if not any(found):
            yield what


def summarize(report: Report) -> Summary:
    """Return one row of figures an engine."""
    batch = pick_batch(report)
    timed = [_bench(engine, batch) for engine in report.engines]
    ms = decimals_for(bench["latency"]["p50_ms"] for bench in timed if bench)
    rate = decimals_for(bench["throughput"] for bench in timed if bench)
    return Summary(
        batch=batch,
        has_accuracy=any(engine.evaluation for engine in report.engines),
        has_errors=any(engine.comparison for engine in report.engines),
        rows=tuple(_row(engine, batch, ms, rate) for engine in report.engines),
    )


def pick_batch(report: Report) -> int | None:
    """Return the batch size most engines were timed at; the smallest of those that tie."""
    batches = [bench["batch"] for engine in report.engines for bench in engine.bench]
    return min(set(batches), key=lambda batch: (-batches.count(batch), batch), default=None)


def _bench(engine: EngineSection, batch: int | None) -> dict[str, Any] | None:
    return next((bench for bench in engine.bench if bench["batch"] == batch), None)


def _row(engine: EngineSection, batch: int | None, ms: int, rate: int) -> EngineRow:
    bench = _bench(engine, batch)
    evaluation = engine.evaluation
    top1 = evaluation["top"][0] if evaluation and evaluation["top"] else None
    flips = evaluation["flips"] if evaluation else None
    return EngineRow(
        name=engine.name,
        precision=engine.precision,
        golden=engine.golden,
        correct=format_count(top1["correct"] if top1 else None),
        total=format_count(top1["total"] if top1 else None),
        top1_percent=format_percent(top1["rate"] if top1 else None),
        flips=format_count(flips["count"] if flips else None),
        relative_l2=format_scientific(worst_relative_l2(engine.comparison)),
        p50_ms=format_fixed(bench["latency"]["p50_ms"] if bench else None, ms),
        throughput=format_fixed(bench["throughput"] if bench else None, rate),
        noise="noisy" if bench and not is_quiet(bench) else "",
        error=engine.error,
    )
