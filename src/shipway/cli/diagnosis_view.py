"""A diagnosis in the terminal: the verdict, every culprit, one line a tensor, the coverage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shipway.cli.terminal import print_lines
from shipway.compare.diagnosis import Diagnosis
from shipway.report.diagnosis_rows import COLUMNS, Gap, Order, TensorRow, select_rows
from shipway.report.diagnosis_text import describe_coverage, describe_culprit, write_verdict
from shipway.report.formats import clean_text

__all__ = ["DEFAULT_ROWS", "diagnosis_lines", "show_diagnosis"]

DEFAULT_ROWS = 40
"""Tensors shown where not all are asked for."""

_MOST_CULPRITS = 8
_WIDEST = 44
"""A cell longer than this does not make its column wider; its own line is longer instead."""

_RIGHT = frozenset({"order", "local", "limit", "accumulated", "gain"})
_STYLES = {"FAULT": "bold red", "over": "yellow", "ok": ""}


def show_diagnosis(
    diagnosis: Diagnosis, *, order: Order = "execution", limit: int | None = DEFAULT_ROWS
) -> None:
    """Print a diagnosis on stdout.

    Args:
        diagnosis: What was found.
        order: "execution": tensors as golden computes them; "worst": the worst first.
        limit: Tensors shown at most: culprits with their neighbours, and what is beyond its
            limits. None: all.
    """
    print_lines(diagnosis_lines(diagnosis, order=order, limit=limit))


def diagnosis_lines(
    diagnosis: Diagnosis, *, order: Order = "execution", limit: int | None = DEFAULT_ROWS
) -> Iterator[tuple[str, str]]:
    """Yield what `show_diagnosis` prints: each line, none wrapped, with its style."""
    verdict = write_verdict(diagnosis)
    yield _clean_line(str(verdict)), "bold green" if verdict.passed else "bold red"
    for problem in diagnosis.input_problems[1:]:
        yield _clean_line(f"  and {problem}"), ""
    shown = diagnosis.culprits if limit is None else diagnosis.culprits[:_MOST_CULPRITS]
    for number, culprit in enumerate(shown, start=1):
        text = describe_culprit(culprit, local=diagnosis.local)
        yield "", ""
        yield _clean_line(f"{number}. {text.heading}"), "bold"
        for label, fact in text.facts:
            yield _clean_line(f"   {label:<12} {fact}"), ""
    if len(diagnosis.culprits) > len(shown):
        yield "", ""
        yield f"and {len(diagnosis.culprits) - len(shown)} more faults; --all shows them", "bold"
    if diagnosis.tensors:
        yield "", ""
        yield from _table(select_rows(diagnosis, order=order, limit=limit))
    yield "", ""
    for label, fact in describe_coverage(diagnosis):
        yield _clean_line(f"{label:<13} {fact}"), ""


def _clean_line(text: str) -> str:
    """Return text as one line, with nothing in it that a terminal obeys."""
    return clean_text(text).replace("\n", "\\n").replace("\t", " ").rstrip()


def _table(rows: Sequence[TensorRow | Gap]) -> Iterator[tuple[str, str]]:
    titles = tuple("" if title == "mark" else title for title in COLUMNS)
    cells = {
        index: tuple(_clean_line(cell) for cell in row.cells)
        for index, row in enumerate(rows)
        if isinstance(row, TensorRow)
    }
    columns = list(zip(titles, *cells.values(), strict=True))
    widths = [max(min(len(cell), _WIDEST) for cell in column) for column in columns]
    yield _align(titles, widths), "bold"
    for index, row in enumerate(rows):
        if isinstance(row, Gap):
            yield f"  {row}", "dim"
        else:
            yield _align(cells[index], widths), _STYLES[row.mark]


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        cell.rjust(width) if title in _RIGHT else cell.ljust(width)
        for title, cell, width in zip(COLUMNS, cells, widths, strict=True)
    )
    return "  ".join(aligned).rstrip()
