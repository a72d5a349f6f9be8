"""The output-error section: how far each engine's outputs are from golden's, against the limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shipway.compare.results import read_number
from shipway.report.charts import Chart, Mark, Row, Scale, Shape, log_scale
from shipway.report.data import EngineSection, Report
from shipway.report.formats import (
    ENGINE_FAILED,
    format_count,
    format_fixed,
    format_percent,
    format_scientific,
)

__all__ = [
    "COLUMNS",
    "Column",
    "ErrorRow",
    "ErrorSection",
    "MetricCell",
    "lay_out_errors",
    "worst_output",
    "worst_relative_l2",
]


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of the table: its field, its header, its glossary entry, how it is written."""

    metric: str
    header: str
    term: str
    write: Callable[[Any], str]
    write_limit: Callable[[float], str] = "{:.3g}".format


def _write_percent(rate: float) -> str:
    return f"{100 * rate:.3g}"


COLUMNS = (
    Column("relative_l2", "Relative L2", "relative-l2", format_scientific),
    Column("worst_channel", "Worst channel", "worst-channel", format_scientific),
    Column(
        "gain",
        "Gain",
        "gain",
        lambda value: format_fixed(value, 6),
        "1 \N{PLUS-MINUS SIGN} {:.3g}".format,
    ),
    Column("zero_mismatch", "Zero pattern, %", "zero-pattern", format_percent, _write_percent),
    Column("cosine", "Cosine", "cosine", lambda value: format_fixed(value, 8)),
    Column("max_abs", "Max abs", "max-abs", format_scientific),
    Column("snr_db", "SNR, dB", "snr", lambda value: format_fixed(value, 1)),
    Column("max_ulp", "Max ULP", "ulp", format_count),
    Column("mismatches", "Unequal", "unequal", format_count),
    Column("nonfinite_mismatches", "NaN, Inf", "nonfinite", format_count),
)


@dataclass(frozen=True, slots=True)
class MetricCell:
    """A value, the limit in force for it, and where it was found."""

    value: str
    limit: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One output of one engine, one cell for each of `COLUMNS`."""

    engine: str
    output: str
    spec: str
    count: str
    cells: tuple[MetricCell, ...]
    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErrorSection:
    """Everything the output-error section shows.

    Args:
        golden: What was taken as right.
        rows: One an engine and output.
        coverage: One sentence an engine: outputs compared, those skipped, and why.
        missing: Label of each engine, golden apart, without a comparison, and why.
        chart: Relative L2 of each engine's worst output against its limit.
    """

    golden: str
    rows: tuple[ErrorRow, ...]
    coverage: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    chart: Chart | None


def lay_out_errors(report: Report) -> ErrorSection | None:
    """Return the section, or None where nothing was compared."""
    compared = [(engine, engine.comparison) for engine in report.engines if engine.comparison]
    if not compared:
        return None
    return ErrorSection(
        golden=", ".join(dict.fromkeys(comparison["golden"] for _, comparison in compared)),
        rows=tuple(
            _row(e, output) for e, comparison in compared for output in comparison["outputs"]
        ),
        coverage=tuple((engine.label, _coverage(c["coverage"])) for engine, c in compared),
        missing=tuple(
            (engine.label, ENGINE_FAILED if engine.error else "not compared")
            for engine in report.engines
            if not engine.comparison and not engine.golden
        ),
        chart=_plot(compared),
    )


def _row(engine: EngineSection, output: dict[str, Any]) -> ErrorRow:
    metrics, verdict = output["metrics"], output["verdict"]
    return ErrorRow(
        engine=engine.label,
        output=output["name"],
        spec=f"{output['dtype']}[{','.join(str(dim) for dim in output['shape'])}]",
        count=format_count(metrics["count"]),
        cells=tuple(_cell(column, metrics, verdict["limits"]) for column in COLUMNS),
        passed=verdict["passed"],
        reasons=tuple(verdict["reasons"]),
    )


def _cell(column: Column, metrics: dict[str, Any], limits: dict[str, float]) -> MetricCell:
    index, axis = metrics["worst_channel_index"], metrics["worst_channel_axis"]
    located = column.metric == "worst_channel" and index is not None
    limit = read_number(limits.get(column.metric))
    return MetricCell(
        value=column.write(read_number(metrics[column.metric])),
        limit="" if limit is None else f"limit {column.write_limit(limit)}",
        where=f"slice {index}, axis {axis}" if located else "",
    )


def _relative_l2(output: dict[str, Any]) -> float | None:
    return read_number(output["metrics"]["relative_l2"])


def _limit(output: dict[str, Any]) -> float | None:
    return read_number(output["verdict"]["limits"].get("relative_l2"))


def _coverage(coverage: dict[str, Any]) -> str:
    skipped = [f"{name}: {why}" for name, why in coverage["skipped"].items()]
    return f"{coverage['compared']} compared, " + (
        f"{len(skipped)} skipped ({'; '.join(skipped)})" if skipped else "none skipped"
    )


def worst_relative_l2(comparison: dict[str, Any] | None) -> float | None:
    """Return the largest relative L2 of the outputs; None where a failed output has no number."""
    outputs = comparison["outputs"] if comparison else []
    if any(_relative_l2(o) is None and not o["verdict"]["passed"] for o in outputs):
        return None
    found = [_relative_l2(output) for output in outputs]
    return max((value for value in found if value is not None), default=None)


def worst_output(comparison: dict[str, Any]) -> dict[str, Any] | None:
    """Return the output whose relative L2 is the largest part of its limit; None if none has one."""

    def severity(output: dict[str, Any]) -> tuple[float, float]:
        value, limit = _relative_l2(output) or 0.0, _limit(output)
        return (value / limit if limit else math.inf if value else 0.0), value

    measured = [output for output in comparison["outputs"] if _relative_l2(output) is not None]
    return max(measured, key=severity, default=None)


def _plot(compared: list[tuple[EngineSection, dict[str, Any]]]) -> Chart | None:
    worst = [(engine, worst_output(comparison)) for engine, comparison in compared]
    found = [(engine, output) for engine, output in worst if output]
    if not found:
        return None
    every = [read(output) for _, output in found for read in (_relative_l2, _limit)]
    scale = log_scale(value for value in every if value is not None and math.isfinite(value))
    return Chart(
        title="Relative L2 of each engine's worst output against its limit, log scale",
        rows=tuple(_plot_row(engine, output, scale) for engine, output in found),
        ticks=scale.ticks,
        legend=(("dot", "relative L2"), ("limit", "limit")),
    )


def _plot_row(engine: EngineSection, output: dict[str, Any], scale: Scale) -> Row:
    value, limit = _relative_l2(output), _limit(output)
    shapes: tuple[tuple[float | None, Shape], ...] = ((limit, "limit"), (value, "dot"))
    marks = [
        Mark(scale.place(at), shape) for at, shape in shapes if at is not None and math.isfinite(at)
    ]
    allowed = "no limit" if limit is None else f"limit {limit:.3g}"
    words = f"{format_scientific(value)} ({allowed}, {output['name']})"
    return Row(engine.label, words, marks=tuple(marks))
