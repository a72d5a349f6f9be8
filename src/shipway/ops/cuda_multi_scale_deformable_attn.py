"""How the CUDA kernel of multi-scale deformable attention is launched."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from shipway.errors import TensorError
from shipway.native.cuda import SOURCES, Grid
from shipway.ops.cuda_launch import Launch

__all__ = ["SOURCE", "Problem", "launch_rule"]

SOURCE = SOURCES / "multi_scale_deformable_attn.cu"
_KERNELS = {
    torch.float32: "multi_scale_deformable_attn_f32",
    torch.float16: "multi_scale_deformable_attn_f16",
    torch.bfloat16: "multi_scale_deformable_attn_bf16",
    torch.float64: "multi_scale_deformable_attn_f64",
}
_THREADS = 256
_WARP = 32
_LOAD_BYTES = 16
_LEVEL_BYTES = 12
_SHARED_BYTES = 48 << 10
_BLOCKS_EACH = (
    4  # of a multiprocessor: measured on an H100, 18 % faster than 32 on scattered points
)
_LARGEST = 2**31 - 1
_LAYOUT = {
    "value": "[batch, pixels, heads, channels]",
    "spatial_shapes": "[levels, 2]",
    "level_start_index": "[levels]",
    "sampling_locations": "[batch, queries, heads, levels, points, 2]",
    "attention_weights": "[batch, queries, heads, levels, points]",
}


class Problem(ctypes.Structure):
    """The kernel's one parameter; field by field `Problem` in multi_scale_deformable_attn.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "sizes", "starts")),
        *((name, ctypes.c_void_p) for name in ("locations", "weights", "out")),
        *((name, ctypes.c_int64) for name in ("pixels", "queries", "items")),
        *((name, ctypes.c_int32) for name in ("heads", "channels", "levels", "points")),
        *((name, ctypes.c_int32) for name in ("vector", "lanes")),
    )


def launch_rule(
    multiprocessors: int,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Launch:
    """Turn a call of the operator into one of the kernel; arguments as the operator's.

    The sizes in `spatial_shapes` are on the GPU: the kernel itself checks that each level fits into
    the pixels, and stops with a device-side assertion where one does not.

    Raises:
        TensorError: The tensors do not fit together, or are too large for the kernel.
    """
    tensors = {
        "value": value,
        "spatial_shapes": spatial_shapes,
        "level_start_index": level_start_index,
        "sampling_locations": sampling_locations,
        "attention_weights": attention_weights,
    }
    _require_shapes(tensors)
    _require_dtypes(tensors)
    _require_range(tensors)
    inputs = tuple(
        (
            item.to(torch.int64) if name in ("spatial_shapes", "level_start_index") else item
        ).contiguous()
        for name, item in tensors.items()
    )
    batch, pixels, heads, channels = value.shape
    queries, _, levels, points = sampling_locations.shape[1:5]
    output = torch.empty((batch, queries, heads * channels), dtype=value.dtype, device=value.device)
    if output.numel() == 0:
        return Launch("", Grid(0, 0), (), output, inputs)
    vector = _vector(channels, inputs[0], output)
    lanes = min(_WARP, 1 << (channels // vector - 1).bit_length())
    items = batch * queries * heads
    pointers = (*(item.data_ptr() for item in inputs), output.data_ptr())
    problem = Problem(
        *pointers, pixels, queries, items, heads, channels, levels, points, vector, lanes
    )
    needed = -(-items * lanes // _THREADS)
    blocks = min(needed, multiprocessors * _BLOCKS_EACH)
    grid = Grid(blocks, _THREADS, levels * _LEVEL_BYTES)
    return Launch(_KERNELS[value.dtype], grid, (problem,), output, inputs)


def _vector(channels: int, value: Tensor, output: Tensor) -> int:
    """Return how many channels one load may take: a power of two that divides and is aligned."""
    size_bytes = int(value.element_size())
    places = int(value.data_ptr() | output.data_ptr() | channels * size_bytes | _LOAD_BYTES)
    return (places & -places) // size_bytes


def _require_shapes(tensors: dict[str, Tensor]) -> None:
    """Hold every tensor to its layout, and every size that has a name to one value."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, tensor in tensors.items():
        axes = _LAYOUT[name].strip("[]").split(", ")
        if tensor.ndim != len(axes) or (axes[-1] == "2" and tensor.shape[-1] != 2):
            raise TensorError(
                f"MultiScaleDeformableAttn: {name} has shape {list(tensor.shape)}, but must be "
                f"{_LAYOUT[name]}.",
                hint="The layouts are those of mmcv and DrivingSDK.",
            )
        for axis, size in zip(axes, tensor.shape, strict=True):
            known, where = sizes.setdefault(axis, (size, name))
            if size != known:
                raise TensorError(
                    f"MultiScaleDeformableAttn: {name} {list(tensor.shape)} has {size} {axis}, but "
                    f"{where} {list(tensors[where].shape)} has {known}.",
                    hint="Make the inputs agree.",
                )


def _require_dtypes(tensors: dict[str, Tensor]) -> None:
    dtype = tensors["value"].dtype
    for name, tensor in tensors.items():
        whole = name in ("spatial_shapes", "level_start_index")
        allowed = (torch.int64, torch.int32) if whole else (dtype,)
        if tensor.dtype not in allowed or (name == "value" and dtype not in _KERNELS):
            wanted = allowed if name != "value" else tuple(_KERNELS)
            raise TensorError(
                f"MultiScaleDeformableAttn: {name} is {_named(tensor.dtype)}, but must be "
                f"{' or '.join(map(_named, wanted))}.",
                hint=f"Convert it with {name}.to({wanted[0]}).",
            )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _require_range(tensors: dict[str, Tensor]) -> None:
    """Refuse what the kernel's 32-bit counts cannot hold; addresses are 64 bits wide."""
    _, pixels, heads, channels = tensors["value"].shape
    levels, points = tensors["sampling_locations"].shape[3:5]
    counts = {
        "pixels": (pixels, _LARGEST),
        "heads * channels": (heads * channels, _LARGEST),
        "levels": (levels, _SHARED_BYTES // _LEVEL_BYTES),
        "levels * points": (levels * points, _LARGEST // 2),
    }
    for name, (count, limit) in counts.items():
        if count > limit:
            raise TensorError(
                f"MultiScaleDeformableAttn on CUDA takes up to {limit} {name}, not {count}.",
                hint="Split the call.",
            )
