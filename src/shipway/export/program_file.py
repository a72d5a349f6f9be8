"""Write an ExportedProgram to a .pt2 file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

from shipway.errors import ExportError
from shipway.export.quiet import collect_warnings
from shipway.source.locations import trace_location

__all__ = ["save_program"]

_PYTHON_OPERATION = re.compile(r"op <built-in function (?P<name>\w+)> is not in")


class _Writer:
    """A file that never fails under torch's hands: it keeps the first error for later.

    torch's archive writer answers an error with another one from its destructor, which ends the
    process.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write, or drop what comes after an error."""
        if self.error is None:
            try:
                return self._stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Flush at the end, where an error can be raised."""


def save_program(program: Any, path: Path) -> None:
    """Save a program with torch.export.save.

    Raises:
        ExportError: torch has no form for something in the program.
        OSError: The disk is full, or the file cannot be written.
    """
    import torch

    with path.open("wb") as stream:
        writer = _Writer(stream)
        try:
            with collect_warnings():
                torch.export.save(program, writer)
        except Exception as error:
            raise _explain(program, error) from error
        if writer.error is not None:
            raise writer.error


def _explain(program: Any, error: Exception) -> ExportError:
    """Say what torch cannot save: as a rule a function of Python's on a size, such as math.floor."""
    match = _PYTHON_OPERATION.search(str(error))
    if match is None:
        line = next((one.strip() for one in reversed(str(error).splitlines()) if one.strip()), "")
        return ExportError(
            f"PyTorch cannot save the exported program: {line or type(error).__name__}.",
            hint="Change that part of the model, or try another release of torch.",
        )
    name = match["name"]
    nodes = (node for node in program.graph.nodes if getattr(node.target, "__name__", "") == name)
    where = next((trace_location(node.meta.get("stack_trace") or "") for node in nodes), None)
    at = "" if where is None else f", at {where.quote()}"
    return ExportError(
        f"PyTorch cannot save a program that takes {name} of a size{at}.",
        hint="Write it with whole numbers: size // 2 instead of math.floor(size / 2).",
    )
