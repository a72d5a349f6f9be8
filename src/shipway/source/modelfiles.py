"""A file the user names: that it is there, is a file, and holds something."""

from __future__ import annotations

import difflib
from pathlib import Path

from shipway.errors import ModelError

__all__ = ["expand_home", "find_model_file", "read_head", "shown_path"]

_HEAD_BYTES = 64
_LFS_POINTER = b"version https://git-lfs"


def find_model_file(path: Path) -> Path:
    """Return the absolute path of a file that exists and is not empty. Symbolic links stay.

    Raises:
        ModelError: It is absent, a folder, empty, unreadable, or only a Git LFS pointer. The hint
            for an absent file lists files of that folder with near names.
    """
    path = expand_home(path).absolute()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name too long, a loop of links
        raise ModelError(f"Cannot read {shown_path(path)}: {error.strerror}.") from error
    if is_folder:
        raise ModelError(f"{shown_path(path)} is a folder, not a file.", hint=_near_names(path))
    if not is_file:
        raise ModelError(f"No such file: {shown_path(path)}.", hint=_near_names(path))
    head = read_head(path)
    if not head:
        raise ModelError(
            f"{shown_path(path)} is empty (0 bytes).", hint="Copy or download it again."
        )
    if head.startswith(_LFS_POINTER):
        raise ModelError(
            f"{shown_path(path)} is a Git LFS pointer, not the file itself.", hint="git lfs pull"
        )
    return path


def expand_home(path: Path) -> Path:
    """Return a path with `~` replaced by the home folder; one of an unknown user stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError as error:
        raise ModelError(f"Cannot read {shown_path(path)}: {error.strerror}.") from error


def shown_path(path: Path) -> str:
    """Return a path as it is shown in a message: relative to the current folder where inside it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _near_names(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        return f"There is no folder {shown_path(folder)} either."
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        return f"The folder {shown_path(folder)} cannot be read: {error.strerror}."
    near = [] if path.is_dir() else difflib.get_close_matches(path.name, names, n=3)
    alike = [name for name in names if path.is_dir() or Path(name).suffix == path.suffix]
    found = ", ".join(list(dict.fromkeys([*near, *alike]))[:5])
    label = "This folder" if folder == Path.cwd() else shown_path(folder)
    return f"{label} has: {found}." if found else ""
