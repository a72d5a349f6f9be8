"""A diagnosis as one self-contained page, readable from a file, on paper, and without its script."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from shipway.compare.diagnosis import Diagnosis
from shipway.report.diagnosis_rows import COLUMNS
from shipway.report.divergence import lay_out_divergence
from shipway.report.pages import open_template

__all__ = ["render_diagnosis"]

_NUMBERS = frozenset({"order", "local", "limit", "accumulated", "channel", "gain"})


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """Return the page.

    Every string is escaped. The page's own security policy forbids requests, and every script but
    the one that sorts and searches its table, which it names by its hash.

    Raises:
        UsageError: The diagnosis is of a precision without limits.
        jinja2.TemplateError: A bug in the page's templates.
    """
    script = _read_script()
    return open_template("diagnosis.html.j2").render(
        diagnosis=diagnosis,
        divergence=lay_out_divergence(diagnosis),
        columns=[(title, title in _NUMBERS) for title in COLUMNS],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read_script() -> str:
    """Return the script of the table. It holds no `</`, which would end its element."""
    return files("shipway.report").joinpath("templates/diagnosis.js").read_text(encoding="utf-8")
