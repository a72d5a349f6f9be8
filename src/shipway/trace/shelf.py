"""Tensors put aside while a comparison needs them: in memory, and on disk beyond a bound."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.closing import Closing
from shipway.files import output_errors

__all__ = ["Shelf"]


class Shelf(Closing):
    """Holds tensors by name. What does not fit into `max_bytes` of memory lies in a temporary file.

    Args:
        max_bytes: Memory for tensors.
        folder: Where the temporary folder goes; None is the system's.
    """

    def __init__(self, max_bytes: int, folder: Path | None = None) -> None:
        """Begin empty; nothing is written before memory is used up."""
        self._max_bytes = max_bytes
        self._parent = folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._held_bytes = 0
        self._held: dict[str, NDArray[Any]] = {}
        self._stored: dict[str, tuple[Path, np.dtype[Any], tuple[int, ...]]] = {}

    def put(self, name: str, value: NDArray[Any]) -> None:
        """Put a tensor aside.

        Raises:
            OutputError: It goes to disk, and the disk is full.
        """
        if self._held_bytes + value.nbytes <= self._max_bytes or not value.nbytes:
            self._held[name] = value
            self._held_bytes += value.nbytes
            return
        path = self._path(len(self._stored))
        with output_errors(path):
            np.ascontiguousarray(value).tofile(path)
        self._stored[name] = (path, value.dtype, value.shape)

    def get(self, name: str) -> NDArray[Any] | None:
        """Return a tensor, mapped from its file where it lies in one; None where there is none."""
        if name in self._held:
            return self._held[name]
        if name not in self._stored:
            return None
        path, dtype, shape = self._stored[name]
        return np.memmap(path, dtype, "r", shape=shape).view(np.ndarray)

    def drop(self, name: str) -> None:
        """Let go of a tensor; of one that is not there, nothing happens."""
        value = self._held.pop(name, None)
        if value is not None:
            self._held_bytes -= value.nbytes
        if name in self._stored:
            self._stored.pop(name)[0].unlink(missing_ok=True)

    def __contains__(self, name: str) -> bool:
        """Say whether a tensor is there."""
        return name in self._held or name in self._stored

    def _path(self, number: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="shipway-shelf-", dir=self._parent)
        return Path(self._folder.name) / f"{number}.bin"

    def close(self) -> None:
        """Let go of everything."""
        self._held.clear()
        self._stored.clear()
        self._held_bytes = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
