"""One tensor of a trace in a .npy file: written whole or not at all, read without loading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from shipway.errors import TensorError
from shipway.tensors import dtype_named

__all__ = ["PARTIAL_SUFFIX", "file_fits", "map_tensor", "write_tensor"]

PARTIAL_SUFFIX = ".part"
_BLOCK_BYTES = 1 << 22
_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, Any]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def write_tensor(path: Path, value: NDArray[Any]) -> None:
    """Write a tensor beside `path` and rename it there; the caller decides when it must be on disk.

    Args:
        path: A .npy file; an old one is replaced.
        value: Any shape, any dtype of `shipway.tensors.DTYPES`.

    Raises:
        OSError: The file cannot be written; nothing is left of it.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    whole = np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
    data = whole.reshape(-1).view(np.uint8).data
    try:
        with partial.open("wb") as stream:
            npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(whole))
            # Not np.save: on a full disk that raises an OSError without the reason.
            for start in range(0, len(data), _BLOCK_BYTES):
                stream.write(data[start : start + _BLOCK_BYTES])
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def map_tensor(path: Path, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the tensor in a file, read as it is touched. It cannot be written to.

    Args:
        path: A .npy file.
        name: Name of the tensor, for the error.
        dtype: Element type it must have, by Shipway's name.
        shape: Sizes it must have.

    Raises:
        TensorError: The file is absent, truncated, or holds another tensor.
    """
    wanted = dtype_named(dtype).numpy
    try:
        offset, found_shape, fortran, found = _read_header(path)
    except OSError as error:
        raise _broken(path, name, error.strerror or str(error)) from error
    except Exception as error:  # on damaged bytes numpy raises whatever it likes
        raise _broken(path, name, f"it is no .npy file ({error})") from error
    if found_shape != shape or found not in {wanted, _stored(wanted)}:
        what = f"{found}{list(found_shape)} instead of {dtype}{list(shape)}"
        raise _broken(path, name, f"it holds {what}")
    size = int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
    there = path.stat().st_size - offset
    if there != size:
        raise _broken(path, name, f"it has {there} bytes of values instead of {size}")
    if not size:
        return np.broadcast_to(np.zeros((), wanted), shape)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, wanted, "r", offset, shape, "F" if fortran else "C"))


def file_fits(path: Path, dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether a file is there and holds a tensor of this type and shape, to the last byte."""
    try:
        map_tensor(path, "", dtype, shape)
    except TensorError:
        return False
    return True


def _read_header(path: Path) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    with path.open("rb") as stream:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"its format version is {version}")
        shape, fortran, dtype = _HEADERS[version](stream)
        return stream.tell(), shape, fortran, dtype


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type under which numpy stores this one: it has no name for bfloat16."""
    return np.dtype(npy.dtype_to_descr(dtype))


def _broken(path: Path, name: str, why: str) -> TensorError:
    return TensorError(
        f"The values of '{name}' cannot be read from {os.fspath(path)}: {why}.",
        hint="Record the tensor again: repeat the command that made the trace with --resume.",
    )
