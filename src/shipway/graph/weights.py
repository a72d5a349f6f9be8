"""Tensors that stay where they are until somebody needs their numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = [
    "AbsentTensor",
    "DeferredTensor",
    "LazyTensor",
    "SparseTensor",
    "StoredTensor",
    "WeightFile",
]

_PIECE_BYTES = 16 << 20


class WeightFile:
    """An open file with weights. It stays readable when another file takes its name.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor, which must not be closed."""
        return self._descriptor

    def read(self, offset: int, size_bytes: int) -> NDArray[np.uint8]:
        """Return bytes of the file, in memory of their own."""
        found = np.empty(size_bytes, np.uint8)
        view = memoryview(found.data)
        done = 0
        while done < size_bytes:
            count = os.preadv(self._descriptor, [view[done : done + _PIECE_BYTES]], offset + done)
            if not count:
                raise EOFError(f"{self.path} ends at byte {offset + done}")
            done += count
        return found


class DeferredTensor(ir.TensorProtocol):
    """A tensor whose dtype and shape are known and whose numbers are fetched when asked for.

    Nothing is kept: each call of `numpy` reads or computes again, so that a pass over all weights
    of a large model holds one of them at a time.

    Args:
        name: Its name.
        dtype: Element type.
        shape: Sizes.
        doc_string: As in the file.
        metadata: As in the file.
    """

    def __init__(
        self,
        name: str | None,
        dtype: ir.DataType,
        shape: tuple[int, ...],
        *,
        doc_string: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Keep what is known."""
        self.name = name
        self.dtype = dtype
        self.shape = ir.Shape(shape, frozen=True)
        self.doc_string = doc_string
        self.metadata_props = metadata or {}
        self.meta: dict[str, Any] = {}

    @property
    def raw(self) -> DeferredTensor:
        """The tensor itself: there is nothing rawer."""
        return self

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape.numpy())

    @property
    def nbytes(self) -> int:
        """The number of bytes in a file: types of fewer than eight bits are packed."""
        return math.ceil(self.dtype.itemsize * self.size)

    def numpy(self) -> NDArray[Any]:
        """Return the numbers."""
        raise NotImplementedError

    def tobytes(self) -> bytes:
        """Return the numbers as they stand in a file: little-endian, four-bit types packed."""
        return bytes(ir.tensor(self.numpy(), dtype=self.dtype).tobytes())

    def tofile(self, file: Any) -> None:
        """Write the bytes to an open file."""
        file.write(self.tobytes())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=bool(copy))

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self.numpy().__dlpack__(stream=stream)

    def __dlpack_device__(self) -> Any:
        return self.numpy().__dlpack_device__()

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.shape.numpy()))
        return f"{type(self).__name__}({self.name!r}, {self.dtype.short_name()}[{sizes}])"


class StoredTensor(DeferredTensor):
    """A tensor in a file.

    Args:
        file: The file, shared by all its tensors.
        offset: Where it begins, in bytes.
        name: Its name.
        dtype: Element type.
        shape: Sizes.
        doc_string: As in the file.
        metadata: As in the file.
    """

    def __init__(
        self,
        file: WeightFile,
        offset: int,
        name: str | None,
        dtype: ir.DataType,
        shape: tuple[int, ...],
        *,
        doc_string: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Keep its place."""
        super().__init__(name, dtype, shape, doc_string=doc_string, metadata=metadata)
        self.file = file
        self.offset = offset

    def numpy(self) -> NDArray[Any]:
        """Read the numbers, which lie little-endian, as ONNX has them."""
        read = self.file.read(self.offset, self.nbytes)
        if self.dtype.bitwidth < 8:
            return _unpack(read, self.dtype, self.shape.numpy())
        return read.view(self.dtype.numpy()).reshape(self.shape.numpy())

    def tobytes(self) -> bytes:
        """Read the bytes."""
        return self.file.read(self.offset, self.nbytes).tobytes()


def _unpack(read: NDArray[np.uint8], dtype: ir.DataType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Spread elements of fewer than eight bits."""
    import onnx

    proto = onnx.TensorProto(data_type=int(dtype), dims=shape, raw_data=read.tobytes())
    return np.asarray(ir.serde.deserialize_tensor(proto).numpy())


class LazyTensor(DeferredTensor):
    """A tensor computed when it is asked for, e.g. a weight that is transposed while it is saved.

    Args:
        compute: Returns the numbers.
        name: Its name.
        dtype: Element type.
        shape: Sizes.
    """

    def __init__(
        self,
        compute: Callable[[], NDArray[Any]],
        name: str | None,
        dtype: ir.DataType,
        shape: tuple[int, ...],
    ) -> None:
        """Keep how to compute it."""
        super().__init__(name, dtype, shape)
        self._compute = compute

    def numpy(self) -> NDArray[Any]:
        """Compute the numbers."""
        return self._compute()


class AbsentTensor(DeferredTensor):
    """A tensor whose numbers are not there: its file is absent, or ends too early.

    Args:
        name: Its name.
        dtype: Element type.
        shape: Sizes.
        location: File it should lie in, as the model names it; "" for the model's own.
        reason: What is wrong, e.g. "weights.bin is absent".
    """

    def __init__(
        self,
        name: str | None,
        dtype: ir.DataType,
        shape: tuple[int, ...],
        *,
        location: str,
        reason: str,
    ) -> None:
        """Keep what is known."""
        super().__init__(name, dtype, shape)
        self.location = location
        self.reason = reason

    @property
    def nbytes(self) -> int:
        """The number of bytes there should be; 0 where the element type is unknown."""
        return 0 if self.dtype is ir.DataType.UNDEFINED else super().nbytes

    def numpy(self) -> NDArray[Any]:
        """Refuse: there is nothing to read."""
        raise EOFError(f"'{self.name}': {self.reason}")


class SparseTensor(DeferredTensor):
    """A sparse initializer: written back as it was read, dense for whoever asks for its numbers.

    Args:
        proto: The SparseTensorProto.
    """

    def __init__(self, proto: Any) -> None:
        """Keep the protobuf."""
        super().__init__(proto.values.name, ir.DataType(proto.values.data_type), tuple(proto.dims))
        self.proto = proto

    def numpy(self) -> NDArray[Any]:
        """Return the dense array."""
        values = ir.serde.deserialize_tensor(self.proto.values).numpy()
        indices = ir.serde.deserialize_tensor(self.proto.indices).numpy()
        shape = self.shape.numpy()
        dense = np.zeros(math.prod(shape), values.dtype)
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        dense[flat] = values
        return dense.reshape(shape)
