"""The report in the terminal: the verdict, what was missed, one table of engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipway.report.data import Report
from shipway.report.formats import MISSING, clean_text
from shipway.report.summary import EngineRow, Headline, Summary, summarize, write_headline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["render_terminal"]


def render_terminal(report: Report) -> RenderableType:
    """Return what `rich` prints: verdict first, then missed checks, engines and notes.

    Nothing depends on colour, and nothing is cut at 80 columns: long text is folded.
    """
    from rich.console import Group

    report = Report.from_json(report.to_json())
    headline = write_headline(report)
    summary = summarize(report)
    parts: list[RenderableType] = [_verdict(report, headline), *_missed(headline)]
    if summary.rows:
        parts += ["", _table(summary), *_conditions(summary)]
    parts += [_text(f"Note: {note}") for note in report.notes]
    return Group(*parts)


def _text(content: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(clean_text(content), style=style, overflow="fold")


def _verdict(report: Report, headline: Headline) -> Text:
    verdict = _text(headline.text, "bold green" if headline.passed else "bold red")
    scope = f"{clean_text(report.title)}: {headline.scope}"
    absent = f"; not measured: {', '.join(headline.not_measured)}" if headline.not_measured else ""
    return verdict.append(f"\n{scope}{absent}", style="not bold default")


def _missed(headline: Headline) -> list[Text]:
    from rich.text import Text

    lines = []
    for check in headline.failed:
        limit = f" ({check.limit})" if check.limit else ""
        lines.append((check.name, f"{check.detail}{limit}"))
    lines += [(f"{label} failed", error) for label, error in headline.errors]
    return [
        Text.assemble(("missed ", "red"), (clean_text(name), "bold"), f": {clean_text(found)}")
        for name, found in lines
    ]


def _table(summary: Summary) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("engine", overflow="fold")
    table.add_column("precision", overflow="fold")
    for title in _titles(summary):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for row in summary.rows:
        figures = [_text(figure) for figure in _figures(summary, row)]
        table.add_row(_text(row.name), _text(row.precision), *figures, _state(row))
    return table


def _titles(summary: Summary) -> list[str]:
    titles = ["Top-1", "flips"] if summary.has_accuracy else []
    titles += ["rel. L2"] if summary.has_errors else []
    unit = "samples/s" if summary.batch else "calls/s"
    return titles + (["p50 ms", unit] if summary.batch is not None else [])


def _figures(summary: Summary, row: EngineRow) -> list[str]:
    figures = []
    if summary.has_accuracy:
        percent = "" if row.top1_percent == MISSING else f" {row.top1_percent}%"
        figures += [f"{row.correct}{percent}", row.flips]
    if summary.has_errors:
        figures.append(row.relative_l2)
    if summary.batch is not None:
        figures += [row.p50_ms, row.throughput]
    return figures


def _state(row: EngineRow) -> Text:
    if row.error:
        return _text("failed", "bold red")
    return _text(", ".join(filter(None, ("golden" if row.golden else "", row.noise))) or "ran")


def _conditions(summary: Summary) -> list[Text]:
    """Say what the figures of the table are of: how many samples, which batch size."""
    totals = dict.fromkeys(row.total for row in summary.rows if row.total != MISSING)
    parts = [f"Top-1 of {' or '.join(totals)} samples"] if totals else []
    parts += [f"p50 and throughput at batch {summary.batch}"] if summary.batch else []
    return [_text("; ".join(parts), "dim")] if parts else []
