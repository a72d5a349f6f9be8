"""Which files of the user's were read while their code ran: a factory may open weights of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shipway.source.ownership import is_own_file

__all__ = ["files_read"]

_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/")
_listening: list[dict[str, None]] = []


@contextlib.contextmanager
def files_read() -> Iterator[list[Path]]:
    """Yield a list that holds, once the block is left, every file of the user's opened for reading.

    Installed packages, the standard library, compiled Python and system files are left out. Files
    that native code opens without Python are not seen.
    """
    _install()
    opened: dict[str, None] = {}
    found: list[Path] = []
    _listening.append(opened)
    try:
        yield found
    finally:
        _listening.remove(opened)
        found += [path for path in map(Path, opened) if is_own_file(path) and path.is_file()]


@functools.cache
def _install() -> None:
    # An audit hook cannot be taken out again; without a listener it does nothing.
    sys.addaudithook(_notice)


def _notice(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _listening:
        return
    name, _, flags = arguments
    if not isinstance(name, str) or flags & os.O_ACCMODE != os.O_RDONLY:
        return
    path = os.path.abspath(name)  # noqa: PTH100 -- resolve() opens files, which would land here again
    if path.endswith(".pyc") or path.startswith(_SYSTEM):
        return
    for opened in _listening:
        opened[path] = None
