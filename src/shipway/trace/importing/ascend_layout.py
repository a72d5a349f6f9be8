"""The blocked layouts of Ascend tensors, and back to the layout a model is written in.

Each function takes the bytes as the device holds them and the shape the model knows, and cuts off
what was padded: channels are padded to a multiple of C0 (16 for fp16, 32 for int8, 8 or 16 for
fp32), matrices to multiples of the cube's sides.

Source: the data formats in CANN's operator guide, and the format conversions of msaccucmp in
mindstudio-probe 26.2.0. msaccucmp keeps the padding of NC1HWC0; here it is cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import TensorError

__all__ = ["FORMATS", "unpack"]

Shape = tuple[int, ...]
_Unpacker = Callable[[NDArray[Any], Shape, str], NDArray[Any]]

FORMATS = {
    0: "NCHW",
    1: "NHWC",
    2: "ND",
    3: "NC1HWC0",
    4: "FRACTAL_Z",
    12: "NC1HWC0_C04",
    13: "FRACTAL_Z_C04",
    14: "CHWN",
    16: "HWCN",
    26: "MD",
    27: "NDHWC",
    29: "FRACTAL_NZ",
    30: "NCDHW",
    31: "DHWCN",
    32: "NDC1HWC0",
    33: "FRACTAL_Z_3D",
    34: "CN",
    35: "NC",
    36: "DHWNC",
    38: "FRACTAL_ZN_LSTM",
    39: "FRACTAL_Z_G",
    40: "RESERVED",
    44: "FRACTAL_ZN_RNN",
}
"""Names of the numbers in a dump; the low byte of the field is the number."""

_PLAIN = frozenset({"NCHW", "ND", "MD", "NCDHW", "NC", "CN", "RESERVED"})
_TRANSPOSED: dict[str, tuple[str, Shape]] = {
    "NHWC": ("NCHW", (0, 3, 1, 2)),
    "HWCN": ("NCHW", (3, 2, 0, 1)),
    "CHWN": ("NCHW", (3, 0, 1, 2)),
    "NDHWC": ("NCDHW", (0, 4, 1, 2, 3)),
    "DHWCN": ("NCDHW", (4, 3, 0, 1, 2)),
    "DHWNC": ("NCDHW", (3, 4, 0, 1, 2)),
}


def unpack(
    stored: NDArray[Any], format_name: str, original: Shape, original_format: str = ""
) -> NDArray[Any]:
    """Return a tensor in the layout of the model it came from.

    Args:
        stored: The values in the shape the device holds them in.
        format_name: How it holds them, of `FORMATS`.
        original: The shape in the model; () where the dump does not say.
        original_format: Layout of `original`: "NCHW", "NHWC", "HWCN" or the like; "" takes the one
            that ONNX and PyTorch have. A tensor is handed out as this layout has it.

    Returns:
        NCHW, NCDHW or ND. Without an `original`, with the padding in it.

    Raises:
        TensorError: The layout is not known, or the shapes contradict one another.

    Example:
        >>> unpack(np.zeros((1, 2, 4, 4, 16)), "NC1HWC0", (1, 20, 4, 4)).shape
        (1, 20, 4, 4)
    """
    if format_name in _PLAIN:
        return _reshape(stored, original or stored.shape)
    if format_name in _TRANSPOSED:
        return _transpose(stored, format_name, original)
    unpacker = _BLOCKED.get(format_name)
    if unpacker is None:
        raise TensorError(f"the layout {format_name} is not one that Shipway unpacks")
    try:
        return unpacker(stored, original, original_format)
    except ValueError as error:
        raise _misfit(stored, format_name, original) from error


def _misfit(stored: NDArray[Any], format_name: str, original: Shape) -> TensorError:
    return TensorError(
        f"{list(stored.shape)} in {format_name} does not hold a tensor of shape {list(original)}"
    )


def _reshape(stored: NDArray[Any], original: Shape) -> NDArray[Any]:
    if math.prod(original) != stored.size:
        raise _misfit(stored, "ND", original)
    return stored.reshape(original)


def _transpose(stored: NDArray[Any], format_name: str, original: Shape) -> NDArray[Any]:
    axes = _TRANSPOSED[format_name][1]
    if stored.ndim != len(axes):  # a format is a label only where the rank is another
        return _reshape(stored, original or stored.shape)
    # The shape in the model is that of its own format: the device's in the same or the usual order.
    if original and original not in {stored.shape, tuple(stored.shape[axis] for axis in axes)}:
        raise _misfit(stored, format_name, original)
    return np.ascontiguousarray(stored.transpose(axes))


def _channels_first(original: Shape, original_format: str) -> Shape:
    """Return the shape of the model as NCHW or NCDHW has it."""
    if original_format in _TRANSPOSED and len(original) == len(_TRANSPOSED[original_format][1]):
        return tuple(original[axis] for axis in _TRANSPOSED[original_format][1])
    return original


def _from_nc1hwc0(stored: NDArray[Any], original: Shape, original_format: str) -> NDArray[Any]:
    count, blocks, height, width, inner = _dims(stored, 5)
    whole = stored.transpose(0, 1, 4, 2, 3).reshape(count, blocks * inner, height, width)
    return _cut_channels(whole, _channels_first(original, original_format))


def _from_ndc1hwc0(stored: NDArray[Any], original: Shape, original_format: str) -> NDArray[Any]:
    count, depth, blocks, height, width, inner = _dims(stored, 6)
    whole = stored.transpose(0, 2, 5, 1, 3, 4)
    whole = whole.reshape(count, blocks * inner, depth, height, width)
    return _cut_channels(whole, _channels_first(original, original_format))


def _cut_channels(whole: NDArray[Any], original: Shape) -> NDArray[Any]:
    """Cut the padding of axis 1, and give the tensor the rank it has in the model."""
    if not original:
        return np.ascontiguousarray(whole)
    if len(original) == whole.ndim:
        return _cut(whole, original, padded=(1,))
    # Lower ranks are held as NCHW with sizes of 1: (N, C) as (N, C, 1, 1), (C,) as (1, C, 1, 1).
    channels = original[1] if len(original) > 1 else math.prod(original)
    return _reshape(np.ascontiguousarray(whole[:, :channels]), original)


def _from_nz(stored: NDArray[Any], original: Shape, _: str) -> NDArray[Any]:
    if stored.ndim < 4:
        raise ValueError(stored.shape)
    *batch, columns1, rows1, rows0, columns0 = stored.shape
    shape = original or (*batch, rows1 * rows0, columns1 * columns0)
    matrix = (1, *shape) if len(shape) == 1 else shape or (1, 1)
    lead = math.prod(matrix[:-2])
    blocks = stored.reshape(lead, columns1, rows1, rows0, columns0).transpose(0, 2, 3, 1, 4)
    whole = blocks.reshape(lead, rows1 * rows0, columns1 * columns0)
    return _cut(whole, (lead, *matrix[-2:]), padded=(1, 2)).reshape(shape)


def _from_fractal_z(stored: NDArray[Any], original: Shape, original_format: str) -> NDArray[Any]:
    """Undo (C1*H*W, N1, N0, C0). Without the shape of the model, H and W are not known."""
    shape = _channels_first(original, original_format)
    if len(shape) != 4:
        raise TensorError("FRACTAL_Z needs the shape of the weight in the model, of rank 4")
    blocks, outer, filters, inner = _dims(stored, 4)
    height, width = shape[2:]
    if not height * width or blocks % (height * width):
        raise ValueError(stored.shape)
    parts = stored.reshape(-1, height, width, outer, filters, inner).transpose(3, 4, 0, 5, 1, 2)
    return _cut(parts.reshape(outer * filters, -1, height, width), shape, padded=(0, 1))


def _from_fractal_z_3d(stored: NDArray[Any], original: Shape, original_format: str) -> NDArray[Any]:
    """Undo (D*C1*H*W, N1, N0, C0)."""
    shape = _channels_first(original, original_format)
    if len(shape) != 5:
        raise TensorError("FRACTAL_Z_3D needs the shape of the weight in the model, of rank 5")
    blocks, outer, filters, inner = _dims(stored, 4)
    depth, height, width = shape[2:]
    if not depth * height * width or blocks % (depth * height * width):
        raise ValueError(stored.shape)
    parts = stored.reshape(depth, -1, height, width, outer, filters, inner)
    whole = parts.transpose(4, 5, 1, 6, 0, 2, 3)
    return _cut(whole.reshape(outer * filters, -1, depth, height, width), shape, padded=(0, 1))


def _dims(stored: NDArray[Any], rank: int) -> Shape:
    if stored.ndim != rank:
        raise ValueError(stored.shape)
    return stored.shape


def _cut(whole: NDArray[Any], original: Shape, *, padded: tuple[int, ...]) -> NDArray[Any]:
    """Cut padded axes to the size they have in the model; the others must have it already."""
    for axis, (size, wanted) in enumerate(zip(whole.shape, original, strict=True)):
        if size < wanted or (size != wanted and axis not in padded):
            raise ValueError(whole.shape)
    return np.ascontiguousarray(whole[tuple(slice(size) for size in original)])


_BLOCKED: dict[str, _Unpacker] = {
    "NC1HWC0": _from_nc1hwc0,
    "NC1HWC0_C04": _from_nc1hwc0,
    "NDC1HWC0": _from_ndc1hwc0,
    "FRACTAL_NZ": _from_nz,
    "FRACTAL_Z": _from_fractal_z,
    "FRACTAL_Z_3D": _from_fractal_z_3d,
}
