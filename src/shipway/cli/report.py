"""The `shipway report` command."""

from __future__ import annotations

from pathlib import Path

from shipway.cli.flags import Flag
from shipway.cli.terminal import print_json, print_result, start_log
from shipway.files import write_text
from shipway.report.html import render_html
from shipway.report.terminal import render_terminal
from shipway.report.write import read_report

__all__ = ["report"]


def report(run: Path, *, html: Path | None = None, json: Flag = False) -> int:
    """Show a report again, or write its HTML anew.

    The exit code is the verdict: 0 pass, 1 fail.

    ```
    shipway report runs/digits
    shipway report runs/digits/report.json --html digits.html
    ```

    Args:
        run: A run folder, or a report.json.
        html: Write the page here.
        json: Print JSON.
    """
    start_log(quiet=json)
    found = read_report(run / "report.json" if run.is_dir() else run)
    if html is not None:
        write_text(html, render_html(found))
    if json:
        print_json(found.to_json())
    else:
        print_result(render_terminal(found))
        if html is not None:
            print_result(f"wrote {html}")
    return 0 if found.passed else 1
