"""How far the numbers of two tensors are apart, read piece by piece."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.weights import SparseTensor, StoredTensor

__all__ = ["Gap", "digest_of", "measure_gap"]

_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Gap:
    """How two tensors of one dtype and shape differ.

    Args:
        differing: Elements whose bits differ.
        size: All elements.
        max_abs: Largest difference of two finite numbers; None where there is none, as in texts.
        moved: Elements that are NaN or infinite on one side only, or not in the same way.
    """

    differing: int
    size: int
    max_abs: float | None
    moved: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain data; a difference too large for a number is None."""
        is_number = self.max_abs is not None and math.isfinite(self.max_abs)
        return {
            "differing": self.differing,
            "size": self.size,
            "max_abs": self.max_abs if is_number else None,
            "moved": self.moved,
        }

    def __str__(self) -> str:
        """Write it in one line."""
        text = f"{self.differing:,} of {self.size:,} elements differ"
        if self.max_abs is not None:
            text += f", by at most {self.max_abs:.3g}"
        return text + (f"; NaN or Inf at {self.moved:,} places of them" if self.moved else "")


def measure_gap(before: ir.TensorProtocol, after: ir.TensorProtocol) -> Gap | None:
    """Compare two tensors of one dtype and shape bit by bit; None where they are equal.

    Tensors at one place of one file are equal unread; others of files are read in pieces.

    Example:
        >>> import numpy as np
        >>> print(measure_gap(ir.tensor(np.float32([1, 2])), ir.tensor(np.float32([1, 2.5]))))
        1 of 2 elements differ, by at most 0.5
    """
    if before is after or _is_one_place(before, after):
        return None
    if before.dtype is ir.DataType.STRING:
        pairs = zip(np.ravel(before.numpy()), np.ravel(after.numpy()), strict=True)
        differing = sum(one != other for one, other in pairs)
        return Gap(differing, before.size, None) if differing else None
    differing, moved, largest = 0, 0, [0.0]
    for one, other in zip(_pieces(before), _pieces(after), strict=True):
        first, second = one.view(np.uint8), other.view(np.uint8)
        if np.array_equal(first, second):
            continue
        places = (first != second).reshape(one.size, -1).any(axis=1)
        differing += int(places.sum())
        gaps, strange = _gaps(one[places], other[places])
        moved += strange
        largest.append(float(gaps.max(initial=0.0)))
    return Gap(differing, before.size, max(largest), moved) if differing else None


def digest_of(tensor: ir.TensorProtocol) -> str:
    """Return a digest of dtype, shape and numbers, read piece by piece."""
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.shape}".encode())
    if tensor.dtype is ir.DataType.STRING:
        digest.update(repr(tensor.numpy().tolist()).encode())
        return digest.hexdigest()
    for piece in _pieces(tensor):
        digest.update(piece.tobytes())
    return digest.hexdigest()


def _is_one_place(before: ir.TensorProtocol, after: ir.TensorProtocol) -> bool:
    if isinstance(before, SparseTensor) and isinstance(after, SparseTensor):
        return bool(before.proto == after.proto)
    if not isinstance(before, StoredTensor) or not isinstance(after, StoredTensor):
        return False
    one, other = os.fstat(before.file.fileno()), os.fstat(after.file.fileno())
    return os.path.samestat(one, other) and before.offset == after.offset


def _pieces(tensor: ir.TensorProtocol) -> Iterator[NDArray[Any]]:
    """Yield the elements in pieces, in one dimension."""
    if not isinstance(tensor, StoredTensor) or tensor.dtype.bitwidth < 8:
        array = np.ascontiguousarray(tensor.numpy()).reshape(-1)
        count = _PIECE_BYTES // max(tensor.dtype.bitwidth // 8, 1)
        for start in range(0, array.size, count):
            yield array[start : start + count]
        return
    dtype = tensor.dtype.numpy()
    step = _PIECE_BYTES // dtype.itemsize * dtype.itemsize
    for start in range(0, tensor.nbytes, step):
        size_bytes = min(step, tensor.nbytes - start)
        yield tensor.file.read(tensor.offset + start, size_bytes).view(dtype)


def _gaps(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the differences of finite numbers, and how many pairs have something else in them."""
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    first, second = one.astype(wide), other.astype(wide)
    finite = np.isfinite(first) & np.isfinite(second)
    with np.errstate(over="ignore"):  # of two huge numbers the difference is infinite
        gaps = np.abs(first[finite] - second[finite])
    return gaps, int((~finite).sum())
