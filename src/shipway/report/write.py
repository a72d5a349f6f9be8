"""Write a report beside the artifacts it is about, and read one back."""

from __future__ import annotations

from pathlib import Path

from shipway.errors import ModelError
from shipway.files import read_json, write_json, write_text
from shipway.report.data import Report
from shipway.report.html import lay_out_page, render_html

__all__ = ["HTML_NAME", "JSON_NAME", "read_report", "write_report"]

JSON_NAME = "report.json"
HTML_NAME = "report.html"


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `folder` and return their paths, in that order.

    Each is written whole or not at all; the page is made before either is touched.

    Raises:
        OutputError: The folder cannot be written.
    """
    page = render_html(report)
    json_path, html_path = folder / JSON_NAME, folder / HTML_NAME
    write_json(json_path, report.to_json())
    write_text(html_path, page)
    return json_path, html_path


def read_report(path: Path) -> Report:
    """Read a report.json.

    Raises:
        ModelError: The file is absent, is no report of Shipway, or has a newer schema.
    """
    try:
        report = _parse(path)
        # What the stages found is nested plain data: laying the page out reads all that is shown.
        lay_out_page(report)
    except RecursionError as error:
        raise _unreadable(path, "it is nested too deep.") from error
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}.") from error
    return report


def _parse(path: Path) -> Report:
    data = read_json(path)
    try:
        return Report.from_json(data)
    except ModelError as error:
        raise _unreadable(path, str(error), error.hint) from error


def _unreadable(path: Path, why: str, hint: str = "") -> ModelError:
    hint = hint or "Give the report.json that shipway deploy wrote."
    return ModelError(f"{path} is not a report that can be shown: {why}", hint=hint)
