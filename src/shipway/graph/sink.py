"""A file being written: bytes from memory, and ranges of other files moved by the kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Self

import onnx_ir as ir

from shipway.graph.weights import DeferredTensor, StoredTensor

__all__ = ["Sink"]

_PIECE_BYTES = 1 << 20
_BLOCK_BYTES = 4096
_NOT_BY_KERNEL = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Sink:
    """Writes to a new file from its beginning.

    Args:
        path: The file; it must be empty.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self.position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, data: Any) -> None:
        """Write bytes, or anything with a buffer of bytes."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += os.write(self._descriptor, view[done : done + _PIECE_BYTES])
        self.position += done

    def pad(self, alignment: int) -> None:
        """Write zeros up to the next multiple of `alignment`."""
        self.write(bytes(-self.position % alignment))

    def write_tensor(self, tensor: ir.TensorProtocol) -> None:
        """Write the numbers of a tensor as ONNX has them: little-endian, small types packed."""
        if isinstance(tensor, StoredTensor):
            self._copy(tensor)
        elif isinstance(tensor, DeferredTensor):
            self.write(ir.tensor(tensor.numpy(), dtype=tensor.dtype).tobytes())
        else:
            self.write(tensor.tobytes())

    def _copy(self, tensor: StoredTensor) -> None:
        offset, end = tensor.offset, tensor.offset + tensor.nbytes
        while offset < end:
            count = self._copy_by_kernel(tensor, offset, end - offset)
            if not count:
                piece = tensor.file.read(offset, min(_PIECE_BYTES, end - offset))
                self.write(piece.data)
                count = piece.nbytes
            offset += count

    def _copy_by_kernel(self, tensor: StoredTensor, offset: int, size_bytes: int) -> int:
        """Return how many bytes the kernel has copied; 0 where it cannot between these files.

        File systems that share blocks do so for whole ones; of others it copies page by page, which
        is slower than a buffer.
        """
        if offset % _BLOCK_BYTES or self.position % _BLOCK_BYTES:
            return 0
        try:
            count = os.copy_file_range(tensor.file.fileno(), self._descriptor, size_bytes, offset)
        except OSError as error:
            if error.errno in _NOT_BY_KERNEL:
                return 0
            raise
        self.position += count
        return count
