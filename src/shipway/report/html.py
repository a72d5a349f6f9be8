"""The report as one self-contained page: no script, no request, readable from a file or on paper."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shipway.compare.diagnosis import Diagnosis
from shipway.report.accuracy import lay_out_accuracy
from shipway.report.data import Report
from shipway.report.divergence import DivergenceSection, lay_out_divergence
from shipway.report.latency import lay_out_latency
from shipway.report.output_error import COLUMNS, lay_out_errors
from shipway.report.pages import open_template
from shipway.report.provenance import (
    describe_machine,
    describe_model,
    lay_out_artifacts,
    lay_out_proof,
)
from shipway.report.summary import summarize, write_headline

__all__ = ["lay_out_page", "render_html"]

CHECKS_IN_BAND = 12
"""Missed checks named in the verdict band; the table below it has all of them."""


def render_html(report: Report) -> str:
    """Return the page.

    Every string is escaped, and the page's own security policy forbids scripts and requests.

    Raises:
        jinja2.TemplateError: A bug in the page's templates.
    """
    return open_template("report.html.j2").render(lay_out_page(report))


def lay_out_page(report: Report) -> dict[str, Any]:
    """Return every section of the page as the templates take it.

    A report is shown as report.json holds it, so that the page made now and the page made from
    the file later are the same.
    """
    report = Report.from_json(report.to_json())
    headline = write_headline(report)
    return {
        "report": report,
        "created": _write_time(report.created),
        "headline": headline,
        "band_checks": headline.failed[:CHECKS_IN_BAND],
        "checks": sorted(report.checks, key=lambda check: check.passed),
        "summary": summarize(report),
        "accuracy": lay_out_accuracy(report),
        "errors": lay_out_errors(report),
        "error_columns": COLUMNS,
        "divergences": _lay_out_divergences(report),
        "latency": lay_out_latency(report),
        "model": describe_model(report),
        "proof": lay_out_proof(report),
        "machine": describe_machine(report),
        "artifacts": lay_out_artifacts(report),
    }


def _lay_out_divergences(report: Report) -> list[tuple[str, DivergenceSection]]:
    """Return a section for each engine that was compared tensor by tensor, with its label."""
    return [
        (engine.label, lay_out_divergence(Diagnosis.from_json(engine.diagnosis)))
        for engine in report.engines
        if engine.diagnosis is not None
    ]


def _write_time(created: str) -> str:
    """Write an ISO time as people read it, in UTC; what is no time stays as it is."""
    try:
        time = datetime.fromisoformat(created)
        utc = time.astimezone(UTC) if time.tzinfo else time
    except (ValueError, OverflowError):
        return created
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
