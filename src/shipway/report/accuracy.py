"""The accuracy section: Top-N with intervals, differences to golden, flips, bad samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shipway.report.charts import Bar, Chart, Mark, Row, linear_scale, stack
from shipway.report.data import EngineSection, Report
from shipway.report.formats import (
    ENGINE_FAILED,
    MISSING,
    decimals_for,
    format_count,
    format_fixed,
    format_percent,
    format_points,
    format_probability,
)

__all__ = ["Accuracy", "AccuracyRow", "BadRow", "FlipRow", "TopCell", "lay_out_accuracy"]

FLIPS_SHOWN = 100
"""Flipped samples listed an engine; report.json has all of them."""

BAD_SHOWN = 100
"""Bad samples listed; report.json has all of them."""


@dataclass(frozen=True, slots=True)
class TopCell:
    """One Top-N: the count, the rate in percent, and its 95 % Wilson interval."""

    correct: str
    percent: str
    interval: str


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One engine: Top-1 to Top-N, and how it differs from golden, sample by sample."""

    label: str
    golden: bool
    total: str
    top: tuple[TopCell | None, ...]
    difference: str
    flips: str
    golden_only: str
    actual_only: str
    mcnemar_p: str
    seconds: str


@dataclass(frozen=True, slots=True)
class FlipRow:
    """One sample that golden and an engine put into different classes."""

    engine: str
    sample: str
    label: str
    golden: str
    actual: str
    right: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """One sample that could not be read, and the engines that met it."""

    sample: str
    reason: str
    engines: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Everything the accuracy section shows.

    Args:
        datasets: Data set, digest and preprocessing of each different evaluation, and whose.
        top_names: N of each Top-N column.
        rows: One an evaluated engine.
        flips: The flipped samples listed.
        flips_total: All flipped samples.
        bad: The bad samples listed.
        bad_total: All bad samples.
        notes: What the evaluations say besides, each once.
        missing: Label of each engine without an evaluation, and why.
        charts: Top-1 with intervals; flips, where there are any.
    """

    datasets: tuple[dict[str, str], ...]
    top_names: tuple[int, ...]
    rows: tuple[AccuracyRow, ...]
    flips: tuple[FlipRow, ...]
    flips_total: int
    bad: tuple[BadRow, ...]
    bad_total: int
    notes: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...]


def lay_out_accuracy(report: Report) -> Accuracy | None:
    """Return the section, or None where no engine was evaluated."""
    evaluated = [(engine, engine.evaluation) for engine in report.engines if engine.evaluation]
    if not evaluated:
        return None
    names = sorted({top["n"] for _, evaluation in evaluated for top in evaluation["top"]})
    golden = report.golden.evaluation if report.golden else None
    decimals = decimals_for(evaluation["seconds"] for _, evaluation in evaluated)
    bad = _bad_rows(evaluated)
    flips = [row for engine, evaluation in evaluated for row in _flip_rows(engine, evaluation)]
    charts = (_plot_top1(evaluated, golden), _plot_flips(evaluated))
    return Accuracy(
        datasets=_datasets(evaluated),
        top_names=tuple(names),
        rows=tuple(_row(engine, e, names, golden, decimals) for engine, e in evaluated),
        flips=tuple(flips),
        flips_total=sum(_flip_count(evaluation) or 0 for _, evaluation in evaluated),
        bad=bad[:BAD_SHOWN],
        bad_total=len(bad),
        notes=tuple(dict.fromkeys(note for _, e in evaluated for note in e["notes"])),
        missing=tuple(
            (engine.label, ENGINE_FAILED if engine.error else "not evaluated")
            for engine in report.engines
            if not engine.evaluation
        ),
        charts=tuple(chart for chart in charts if chart),
    )


_Evaluated = list[tuple[EngineSection, dict[str, Any]]]


def _datasets(evaluated: _Evaluated) -> tuple[dict[str, str], ...]:
    found: dict[str, dict[str, str]] = {}
    for engine, evaluation in evaluated:
        key = evaluation["dataset_digest"]
        entry = found.setdefault(
            key,
            {
                "dataset": evaluation["dataset"],
                "digest": key,
                "preprocess": evaluation["preprocess"],
                "engines": "",
            },
        )
        entry["engines"] += f"{', ' if entry['engines'] else ''}{engine.label}"
    return tuple(found.values())


def _row(
    engine: EngineSection,
    evaluation: dict[str, Any],
    names: list[int],
    golden: dict[str, Any] | None,
    decimals: int,
) -> AccuracyRow:
    tops = {top["n"]: top for top in evaluation["top"]}
    flips = evaluation["flips"] or {}
    return AccuracyRow(
        label=engine.label,
        golden=engine.golden,
        total=format_count(next((top["total"] for top in tops.values()), None)),
        top=tuple(_cell(tops[n]) if n in tops else None for n in names),
        difference=MISSING if engine.golden else format_points(_difference(evaluation, golden)),
        flips=format_count(flips.get("count")),
        golden_only=format_count(flips.get("golden_only")),
        actual_only=format_count(flips.get("actual_only")),
        mcnemar_p=format_probability(flips.get("mcnemar_p")),
        seconds=format_fixed(evaluation["seconds"], decimals),
    )


def _cell(top: dict[str, Any]) -> TopCell:
    interval = f"{format_percent(top['low'])} to {format_percent(top['high'])}"
    return TopCell(format_count(top["correct"]), format_percent(top["rate"]), interval)


def _difference(evaluation: dict[str, Any], golden: dict[str, Any] | None) -> float | None:
    """Top-1 rate minus golden's; None unless both saw the same samples the same way."""
    if golden is None or golden["dataset_digest"] != evaluation["dataset_digest"]:
        return None
    actual, reference = _top1(evaluation), _top1(golden)
    return actual["rate"] - reference["rate"] if actual and reference else None


def _top1(evaluation: dict[str, Any]) -> dict[str, Any] | None:
    return next((top for top in evaluation["top"] if top["n"] == 1), None)


def _flip_count(evaluation: dict[str, Any]) -> int | None:
    return evaluation["flips"]["count"] if evaluation["flips"] else None


def _flip_rows(engine: EngineSection, evaluation: dict[str, Any]) -> list[FlipRow]:
    flips = evaluation["flips"]["flips"] if evaluation["flips"] else []
    return [
        FlipRow(
            engine=engine.label,
            sample=flip["sample"],
            label=str(flip["label"]),
            golden=str(flip["golden"]),
            actual=str(flip["actual"]),
            right=_right(flip),
        )
        for flip in flips[:FLIPS_SHOWN]
    ]


def _right(flip: dict[str, Any]) -> str:
    sides = {flip["golden"]: "golden", flip["actual"]: "engine"}
    return sides.get(flip["label"], "neither")


def _bad_rows(evaluated: _Evaluated) -> tuple[BadRow, ...]:
    met: dict[tuple[str, str], list[str]] = {}
    for engine, evaluation in evaluated:
        for bad in evaluation["bad"]:
            met.setdefault((bad["sample"], bad["reason"]), []).append(engine.label)
    return tuple(
        BadRow(sample, reason, "all" if len(who) == len(evaluated) else ", ".join(who))
        for (sample, reason), who in met.items()
    )


def _plot_top1(evaluated: _Evaluated, golden: dict[str, Any] | None) -> Chart | None:
    found = [(engine, top) for engine, e in evaluated if (top := _top1(e))]
    if not found:
        return None
    scale = linear_scale(
        100 * min(top["low"] for _, top in found),
        100 * max(top["high"] for _, top in found),
        bound=100.0,
    )
    reference = _top1(golden) if golden else None
    rows = [
        Row(
            label=engine.label,
            value=f"{format_percent(top['rate'])} ({_cell(top).interval})",
            marks=(Mark(scale.place(100 * top["rate"]), "dot"),),
            bars=(Bar(scale.place(100 * top["low"]), scale.place(100 * top["high"]), "interval"),),
            golden=engine.golden,
        )
        for engine, top in found
    ]
    return Chart(
        title="Top-1 accuracy, %, with 95 % Wilson interval",
        rows=tuple(rows),
        ticks=scale.ticks,
        legend=(("dot", "Top-1"), ("interval", "95 % interval"), ("reference", "golden")),
        reference=scale.place(100 * reference["rate"]) if reference else None,
    )


def _plot_flips(evaluated: _Evaluated) -> Chart | None:
    paired = [(engine, e["flips"]) for engine, e in evaluated if e["flips"]]
    most = max((flips["count"] for _, flips in paired), default=0)
    if not most:
        return None
    scale = linear_scale(0.0, float(most), whole=True)
    rows = []
    for engine, flips in paired:
        lost, won = flips["golden_only"], flips["actual_only"]
        neither = flips["count"] - lost - won
        parts = (("lost", lost), ("won", won), ("neither", neither))
        value = f"{flips['count']:,} ({lost:,} / {won:,} / {neither:,})"
        rows.append(Row(engine.label, value, bars=stack(parts, scale.place)))
    return Chart(
        title="Flips against golden, samples: golden right / engine right / neither",
        rows=tuple(rows),
        ticks=scale.ticks,
        legend=(("lost", "golden right"), ("won", "engine right"), ("neither", "neither right")),
    )
