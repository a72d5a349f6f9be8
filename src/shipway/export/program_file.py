"""Write an ExportedProgram to a .pt2 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from shipway.export.quiet import collect_warnings

__all__ = ["save_program"]


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
        OSError: The disk is full, or the file cannot be written.
    """
    import torch

    with path.open("wb") as stream:
        writer = _Writer(stream)
        with collect_warnings():
            torch.export.save(program, writer)
        if writer.error is not None:
            raise writer.error
