"""What commands share of the terminal: results on stdout, log and progress bars on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from shipway.progress import SILENT, Progress

__all__ = [
    "make_table",
    "percent",
    "print_json",
    "print_lines",
    "print_result",
    "scientific",
    "show_progress",
    "start_log",
]


def print_json(data: Any) -> None:
    """Print plain data as JSON on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def print_result(*parts: RenderableType) -> None:
    """Print the result of a command on stdout; wide when stdout is not a terminal."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=max(console.width, 160))
    for part in parts:
        console.print(part)


def print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines of any length on stdout, none wrapped or cut.

    Args:
        lines: Texts, each with a style of rich's that a terminal shows; "" is none.
    """
    console = Console(highlight=False, markup=False)
    for text, style in lines:
        console.print(Text(text, style=style), soft_wrap=True)


def make_table(*columns: str, title: str = "") -> Table:
    """Return an empty table: the first column left-aligned, the others right."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
    return table


def percent(rate: float) -> str:
    """Write a rate in [0, 1] as per cent."""
    return f"{100 * rate:.2f} %"


def scientific(number: float | None) -> str:
    """Write a small number such as an error; "" for one that has no value."""
    return "" if number is None else f"{number:.2e}"


def start_log(*, quiet: bool = False) -> None:
    """Send Shipway's log to stderr: stages and notes, or warnings only."""
    log = logging.getLogger("shipway")
    if not log.handlers:
        console = Console(stderr=True)
        handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
        log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield a Progress that draws on stderr, or a silent one where stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield SILENT
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)


class _Bar:
    """Draws the current task and forgets the one before."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def start(self, task: str, total: int | None = None) -> None:
        """Replace the bar by one for `task`."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(task, total=total)

    def advance(self, steps: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.advance(self._task, steps)
