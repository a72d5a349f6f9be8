"""Runs a script that was written for another graph tool, unmodified."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from shipway.compat.importing import drop_ins
from shipway.compat.journal import JOURNAL
from shipway.errors import ShipwayError, UsageError

__all__ = ["run_script"]

_USAGE = "Usage: python -m shipway.compat SCRIPT.py [ARGUMENTS ...]"


def run_script(arguments: Sequence[str]) -> int:
    """Run a script as `python script.py ARGS` would, with the drop-ins in the place of the tools.

    An error of the script shows the script's own traceback. What the drop-ins stood in for, and
    what they could not do, is told on standard error in one line.

    Args:
        arguments: The script and what it is given.

    Returns:
        The exit code.
    """
    if list(arguments[:1]) in (["-h"], ["--help"]):
        _say(_USAGE)
        return 0
    if not arguments:
        return _complain(UsageError("There is no script to run.", hint=_USAGE))
    path = Path(arguments[0])
    if not path.is_file():
        hint = "The first argument is the script; its own arguments follow."
        return _complain(UsageError(f"No such script: {path}.", hint=hint))
    try:
        with _as_main(path, arguments), drop_ins():
            runpy.run_path(str(path), run_name="__main__")
    except Exception as error:  # noqa: BLE001 -- whatever the script raises is the script's
        _show(error, path)
        return error.exit_code if isinstance(error, ShipwayError) else 1
    else:
        return 0
    finally:
        _say(f"shipway.compat: {path.name} ran on {JOURNAL.summary()}.")


@contextmanager
def _as_main(path: Path, arguments: Sequence[str]) -> Iterator[None]:
    """While it lasts, the process looks as if the script had been started by itself."""
    before = sys.argv, sys.path
    sys.argv = list(arguments)
    sys.path = [str(path.resolve().parent), *sys.path[1:]]
    try:
        yield
    finally:
        sys.argv, sys.path = before


def _show(error: Exception, path: Path) -> None:
    """Print a traceback that begins in the script, and the hint of an error of Shipway's."""
    steps = error.__traceback__
    while steps is not None and not _is_in(steps, path):
        steps = steps.tb_next
    shown = error.with_traceback(steps)
    _say("".join(traceback.format_exception(type(shown), shown, steps)).rstrip())
    if isinstance(error, ShipwayError) and error.hint:
        _say(f"hint:  {error.hint}")


def _is_in(step: TracebackType, path: Path) -> bool:
    return os.path.realpath(step.tb_frame.f_code.co_filename) == os.path.realpath(path)


def _complain(error: ShipwayError) -> int:
    _say(f"error: {error}")
    if error.hint:
        _say(f"hint:  {error.hint}")
    return error.exit_code


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
