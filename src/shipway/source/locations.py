"""Where in the user's code something happened: from stack traces, errors and live frames."""

from __future__ import annotations

import functools
import linecache
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

__all__ = ["CodeLocation", "current_location", "error_location", "shorten_trace", "trace_location"]

_FRAME = re.compile(
    r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]*(?:\n[ ]{4,}(?P<code>[^\n]+))?'
)
_PACKAGES = re.compile(r"(?:^|.*/)(?:site|dist)-packages/")
_LIBRARY = re.compile(
    r"(?:^|/)(?:(?:site|dist)-packages/)(?:torch|onnxscript|onnx|onnx_ir)/|^torch/|^<"
)
_STDLIB = re.compile(r"/lib/python3\.\d+/(?!site-packages/|dist-packages/)")


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """One line of code: its file as short as it stays unique in the project, line, and text."""

    file: str
    line: int
    code: str = ""

    def __str__(self) -> str:
        """Write it as `file.py:18`."""
        return f"{self.file}:{self.line}"

    def quote(self) -> str:
        """Write it with its code, for an error message."""
        return f"{self}: {self.code}" if self.code else str(self)


@functools.cache
def _own_folders() -> tuple[str, ...]:
    """Folders whose frames are never the user's: torch's, wherever it lies, and Shipway's."""
    spec = find_spec("torch")
    torch = () if spec is None or spec.origin is None else (str(Path(spec.origin).parent) + "/",)
    return (str(Path(__file__).resolve().parents[1]) + "/", *torch)


def _is_user_file(file: str) -> bool:
    return not (file.startswith(_own_folders()) or _LIBRARY.search(file) or _STDLIB.search(file))


@functools.cache
def short_path(file: str) -> str:
    """Return a path that says which module it is and not where it lies on this machine.

    Below site-packages the rest is kept; elsewhere the folders that are Python packages are.
    """
    if match := _PACKAGES.match(file):
        return file[match.end() :]
    path = Path(file)
    if not path.is_absolute():
        return file
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return path.relative_to(top).as_posix()


def shorten_trace(text: str) -> str:
    """Return a stack trace with short paths, so that two machines write the same bytes."""
    return re.sub(r'File "([^"]+)"', lambda match: f'File "{short_path(match[1])}"', text)


def trace_location(text: str) -> CodeLocation | None:
    """Return the innermost line of the user's own code in the stack trace of a node.

    Where every frame lies in a library, the outermost of them is returned: it is nearest to the
    user. None where there is no trace at all, or only torch's own bookkeeping.
    """
    frames = [
        (match["file"], int(match["line"]), (match["code"] or "").strip())
        for match in _FRAME.finditer(text)
    ]
    mine = [frame for frame in frames if _is_user_file(frame[0])]
    chosen = mine[-1:] or [frame for frame in frames if not frame[0].startswith("torch/")][:1]
    return CodeLocation(short_path(chosen[0][0]), *chosen[0][1:]) if chosen else None


def error_location(error: BaseException) -> CodeLocation | None:
    """Return the innermost line of the user's own code that an error passed through."""
    frames: Iterable[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if _is_user_file(frame.filename)]
    if not mine:
        return None
    frame = mine[-1]
    return CodeLocation(short_path(frame.filename), frame.lineno or 0, (frame.line or "").strip())


def current_location(transparent: tuple[str, ...] = ()) -> tuple[CodeLocation | None, bool]:
    """Return the running line of the model's code, and whether it runs directly.

    Walks outwards from the caller up to the first frame that is the user's, and gives up where
    Shipway's own frames begin again: then no code of the model is running.

    Args:
        transparent: Endings of files that may lie between that line and the caller without the
            line ceasing to be the direct cause.
    """
    own = _own_folders()[0]
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- the documented way to look at the running stack
    while frame is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    direct = True
    while frame is not None and not frame.f_code.co_filename.startswith(own):
        file = frame.f_code.co_filename
        if _is_user_file(file):
            code = linecache.getline(file, frame.f_lineno).strip()
            return CodeLocation(short_path(file), frame.f_lineno, code), direct
        direct = direct and file.endswith(transparent)
        frame = frame.f_back
    return None, False
