"""Write files so that nothing is ever left half-written; read JSON; hash.

Tensors in files (.npy, .npz, .bin, Polygraphy JSON) are in `shipway.tensorfiles`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shipway.errors import ModelError, OutputError, ShipwayError

__all__ = [
    "atomic_folder",
    "atomic_path",
    "file_sha256",
    "make_folder",
    "output_errors",
    "read_json",
    "write_json",
    "write_text",
]

_CHUNK_BYTES = 1 << 20
_FULL_BYTES = 1 << 20
_WRITE_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block succeeds.

    The temporary file is flushed to disk and renamed, so a reader sees the old file, or the whole
    new one, or none. When the block fails, the temporary file is removed.

    Raises:
        OutputError: The folder cannot be made or written to, or the disk is full.
    """
    make_folder(target.parent)
    temporary = _beside(target, target.suffix)
    try:
        with output_errors(target):
            temporary.touch(exist_ok=False)
            yield temporary
            _flush(temporary)
            temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _beside(target: Path, suffix: str = "") -> Path:
    """Return a path that is not taken, in the folder of `target`. The umask decides its rights."""
    return target.parent / f".tmp-{secrets.token_hex(8)}{suffix}"


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that replaces `target` when the block succeeds.

    For results of several files that only make sense together. A reader sees the old folder, or the
    whole new one, or none. When the block fails, the temporary folder is removed and an existing
    `target` is untouched.

    Raises:
        OutputError: As for `atomic_path`; or `target` is a file, or holds the current folder.
    """
    target = target.resolve()  # a link to a folder on a larger disk stays a link
    make_folder(target.parent)
    temporary = _beside(target)
    try:
        with output_errors(target):
            temporary.mkdir()
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    _flush(path)
            _swap_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`, the old one moved aside whole before it is deleted."""
    if target.is_file():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    if Path.cwd().is_relative_to(target):
        raise OutputError(
            f"Cannot replace {target}: it is or holds the current folder.",
            hint="Give a folder of its own with --output.",
        )
    old = _beside(target)
    is_there = target.exists()
    if is_there:
        target.replace(old)
    try:
        new.replace(target)
    except OSError:
        if is_there:
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn a failure to write into an OutputError that names `target`.

    Native writers (torch, OpenVINO) report a full disk as a RuntimeError of their own; an error of
    any type counts as one when the disk is full at that moment.
    """
    try:
        yield
    except ShipwayError:
        raise
    except Exception as error:
        reason = _write_failure(error, target)
        if reason is None:
            raise
        raise OutputError(
            f"Cannot write {target}: {reason}.",
            hint="Give another place to write to (--output), or free some space there."
            if reason == os.strerror(errno.ENOSPC)
            else "Give another place to write to (--output).",
        ) from error


def _write_failure(error: Exception, target: Path) -> str | None:
    if (
        isinstance(error, OSError)
        and error.errno in _WRITE_ERRNOS
        and not _elsewhere(error, target)
    ):
        return error.strerror or str(error)
    with contextlib.suppress(OSError):
        if shutil.disk_usage(target.parent).free < _FULL_BYTES:
            return os.strerror(errno.ENOSPC)
    return None


def _elsewhere(error: OSError, target: Path) -> bool:
    """Whether the error is about a file in quite another place: one that could not be read, say."""
    if not isinstance(error.filename, str):
        return False
    place = Path(error.filename).absolute()
    folder = target.absolute().parent
    return not (place.is_relative_to(folder) or folder.is_relative_to(place))


def make_folder(folder: Path) -> Path:
    """Create `folder` with its parents and return it.

    Raises:
        OutputError: It cannot be created, or a file is in its place.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON with a newline at its end, atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelError: The file is absent or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror}.") from error
    return digest.hexdigest()
