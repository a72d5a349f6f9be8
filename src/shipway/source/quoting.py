"""Turn an exception in the user's code into one sentence: what, where, no traceback."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path

from shipway.errors import ModelError, ShipwayError
from shipway.source.modelfiles import shown_path
from shipway.source.ownership import is_own_file

__all__ = ["quote_errors", "quote_text"]

_QUOTE_CHARS = 600
_MEND_HINT = "Mend it there and run the same command again."
_RELATIVE_HINT = (
    "Give it as package.module:name in the folder above, or add an __init__.py to its own."
)


@contextlib.contextmanager
def quote_errors(doing: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a ModelError that quotes it.

    Args:
        doing: Start of the sentence, say "net.py:make".

    Raises:
        ModelError: With type, message, and file and line of the last frame in the user's code.
    """
    try:
        yield
    except ShipwayError:
        raise
    except SystemExit as error:
        raise ModelError(
            f"{doing} ended the program with sys.exit({error.code!r}){_place(error)}.",
            hint="Put the part that runs as a script under: if __name__ == '__main__':",
        ) from error
    except SyntaxError as error:
        raise ModelError(_syntax_text(doing, error), hint=_MEND_HINT) from error
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{doing} needs the module '{error.name}', which is not here{_place(error)}.",
            hint=f"Install it for {sys.executable}, or add the folder that holds it to PYTHONPATH.",
        ) from error
    except Exception as error:
        relative = isinstance(error, ImportError) and "relative import" in str(error)
        raise ModelError(
            f"{doing} raised {type(error).__name__}{_message(error)}{_place(error)}.",
            hint=_RELATIVE_HINT if relative else _MEND_HINT,
        ) from error


def quote_text(text: object) -> str:
    """Return a message on one line, cut where it is very long."""
    return textwrap.shorten(str(text), _QUOTE_CHARS, placeholder=" ...")


def _message(error: BaseException) -> str:
    text = quote_text(error).rstrip(".")
    return f": {text}" if text else ""


def _place(error: BaseException) -> str:
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__, limit=None)
        if is_own_file(Path(frame.filename))
    ]
    return f", at {shown_path(Path(own[-1].filename))}:{own[-1].lineno}" if own else ""


def _syntax_text(doing: str, error: SyntaxError) -> str:
    if error.filename and is_own_file(Path(error.filename)):
        place = f"{shown_path(Path(error.filename))}:{error.lineno}"
        return f"{place} is not valid Python: {error.msg}."
    return f"{doing} raised {type(error).__name__}: {error.msg}{_place(error)}."
