"""Samples of a volume at given points: grid_sample of torch for five axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = ["grid_sample_3d", "grid_sample_3d_op"]

_MODES = ("bilinear", "nearest")
_PADDINGS = ("zeros", "border", "reflection")
_BILINEAR, _NEAREST = 0, 1
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2
_SINCE = 20
"""First opset whose GridSample takes volumes."""


def _grid(
    generator: np.random.Generator,
    sides: Sequence[int],
    points: Sequence[int],
    *,
    reach: int = 2,
    align_corners: bool = False,
) -> Tensor:
    """Make points that reach over each border by some voxels and stay clear of all middles and edges."""
    grid = []
    for size in reversed(sides):
        whole = generator.integers(-reach, size + reach, points)
        voxel = whole + generator.uniform(0.1, 0.4, points) * generator.choice((-1, 1), points)
        scaled = 2 * voxel / max(size - 1, 1) - 1 if align_corners else (2 * voxel + 1) / size - 1
        grid.append(scaled)
    return torch.from_numpy(np.stack(grid, axis=-1))


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def volume(*size: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(size))

    for mode in range(len(_MODES)):
        for padding in range(len(_PADDINGS)):
            for align_corners in (False, True):
                sides = (4, 3, 5)
                grid = _grid(generator, sides, (2, 3, 2, 4), align_corners=align_corners)
                name = f"{_MODES[mode]}, {_PADDINGS[padding]}, align_corners={align_corners}"
                settings = {
                    "interpolation_mode": mode,
                    "padding_mode": padding,
                    "align_corners": align_corners,
                }
                yield Sample(name, (volume(2, 3, *sides), grid), settings)
    sides = (7, 2, 6)
    yield Sample("other sizes", (volume(1, 2, *sides), _grid(generator, sides, (1, 5, 4, 3))))
    yield Sample("one element", (volume(1, 1, 1, 1, 1), _grid(generator, (1, 1, 1), (1, 1, 1, 1))))
    yield Sample("no batch", (volume(0, 2, 3, 3, 3), _grid(generator, (3, 3, 3), (0, 2, 2, 2))))
    yield Sample("no point", (volume(1, 2, 3, 3, 3), _grid(generator, (3, 3, 3), (1, 0, 2, 2))))
    sides = (20, 30, 40)
    yield Sample(
        "a large volume", (volume(1, 1, *sides), _grid(generator, sides, (1, 9, 10, 11), reach=1))
    )
    lost = _grid(generator, (4, 3, 5), (1, 2, 3, 4))
    strange = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e4])
    lost[0, 0, 0, :, 0], lost[0, 1, 1, :, 2] = strange, strange
    for padding, name in enumerate(_PADDINGS[:2]):
        settings = {"padding_mode": padding}
        yield Sample(f"points that are none, {name}", (volume(1, 2, 4, 3, 5), lost), settings)
    hole = volume(1, 1, 4, 4, 4)
    hole[0, 0, 1, 2, 3] = torch.nan
    yield Sample("NaN in the volume", (hole, _grid(generator, (4, 4, 4), (1, 4, 4, 4))))
    yield Sample(
        "for the gradient",
        (volume(1, 2, 2, 3, 2), _grid(generator, (2, 3, 2), (1, 1, 2, 3), reach=1)),
        gradient=True,
    )


def _shape(input: Tensor, grid: Tensor, *_: Any, **__: Any) -> Tensor:
    return input.new_empty((*input.shape[:2], *grid.shape[1:4]))


def _standard(op: Any, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Write GridSample, in float32 where the inputs are narrower.

    Its coordinates are made harmless first: ONNX Runtime takes NaN and what does not fit an integer
    for the first voxel, whatever the padding.
    """
    import onnx_ir as ir

    if op.opset < _SINCE:
        return None
    volume, grid = (op.wide(item) for item in inputs)
    kind = np.float64 if inputs[0].dtype == ir.DataType.DOUBLE else np.float32
    zero, one, low, high = (np.asarray(number, kind) for number in (0, 1, -100, 100))
    padding = attributes["padding_mode"]
    none = op.IsNaN(grid)
    if padding == _BORDER:
        safe = op.Where(none, high, op.Clip(grid, low, high))
    else:
        none = op.Or(none, op.IsInf(grid))
        safe = op.Where(none, one, grid if padding == _REFLECTION else op.Clip(grid, low, high))
    result = op.GridSample(
        volume,
        safe,
        mode="nearest" if attributes["interpolation_mode"] == _NEAREST else "linear",
        padding_mode=_PADDINGS[padding],
        align_corners=int(attributes["align_corners"]),
    )
    if padding == _ZEROS:
        # Not ReduceMax, which ONNX Runtime computes with a wrong shape where there is no point.
        x, y, z = (op.Gather(none, axis, axis=4) for axis in range(3))
        lost = op.Or(op.Or(x, y), z)
        result = op.Where(op.Unsqueeze(lost, [1]), zero, result)
    return op.narrow(result, inputs[0])


@custom_op(
    "shipway::grid_sample_3d",
    schema="(Tensor input, Tensor grid, int interpolation_mode=0, int padding_mode=0, "
    "bool align_corners=False) -> Tensor",
    types="TT->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    standard=_standard,
    pure=True,
)
def grid_sample_3d_op(
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor:
    """Sample a volume at points.

    A point whose coordinate is NaN lies outside, or at the last voxel where there is a padding; so
    does an infinite one with reflection.

    Args:
        input: (batch, channels, depth, height, width).
        grid: (batch, out depth, out height, out width, 3), x, y and z in [-1, 1].
        interpolation_mode: 0 bilinear, 1 nearest (half to even).
        padding_mode: What lies outside. 0 zeros, 1 the voxel at the border, 2 the mirrored volume.
        align_corners: Whether -1 and 1 are the centres of the corner voxels, not their outer edges.

    Returns:
        (batch, channels, out depth, out height, out width).

    Source: torch.nn.functional.grid_sample; numbers of the modes as in torch.grid_sampler_3d and
    DrivingSDK's grid_sampler3d_v1.
    """
    batch, channels, depth, height, width = input.shape
    rows = input.reshape(batch, channels, depth * height * width).permute(0, 2, 1)
    rows = rows.reshape(batch * depth * height * width, channels)
    rows = torch.cat((rows, rows.new_zeros((1, channels))))
    x, y, z = (
        _positions(grid[..., axis], size, padding_mode, align_corners)
        for axis, size in enumerate((width, height, depth))
    )
    image = torch.arange(batch, device=input.device).reshape(-1, 1, 1, 1)
    result = rows.new_zeros((*x.shape, channels))
    for x_voxel, x_share, x_counts in _reads(x, width, interpolation_mode):
        for y_voxel, y_share, y_counts in _reads(y, height, interpolation_mode):
            for z_voxel, z_share, z_counts in _reads(z, depth, interpolation_mode):
                voxel = ((image * depth + z_voxel) * height + y_voxel) * width + x_voxel
                counts = x_counts & y_counts & z_counts
                voxel = torch.where(counts, voxel, batch * depth * height * width)
                values = torch.index_select(rows, 0, voxel.reshape(-1)).reshape(result.shape)
                result = result + (z_share * y_share * x_share).unsqueeze(-1) * values
    return result.permute(0, 4, 1, 2, 3)


def _positions(coordinate: Tensor, size: int, padding_mode: int, align_corners: bool) -> Tensor:
    """Return coordinates in voxels; with padding they lie inside."""
    if align_corners:
        position = (coordinate + 1) / 2 * (size - 1)
    else:
        position = ((coordinate + 1) * size - 1) / 2
    if padding_mode == _ZEROS:
        return position
    if padding_mode == _REFLECTION:
        # A volume of one voxel has no span to align its corners with: everything is that voxel.
        low, span = (0.0, max(size - 1, 1)) if align_corners else (-0.5, size)
        away = (position - low).abs()
        flips = torch.floor(away / span)
        extra = away - flips * span
        odd = flips - 2 * torch.floor(flips / 2) == 1
        position = torch.where(odd, span - extra, extra) + low
    last = torch.zeros_like(position) + (size - 1)
    return torch.where(position < last, torch.clamp(position, min=0), last)


def _reads(
    position: Tensor, size: int, interpolation_mode: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return voxels on an axis, how much of each is read, and whether it is there."""
    if interpolation_mode == _NEAREST:
        nearest = torch.round(position)
        parts = [(nearest, torch.ones_like(position))]
    else:
        inside = (position > -1) & (position < size)
        position = torch.where(inside, position, torch.full_like(position, -2))
        low = torch.floor(position)
        parts = [(low, low + 1 - position), (low + 1, position - low)]
    found = []
    for place, share in parts:
        counts = (place >= 0) & (place < size)
        voxel = torch.where(counts, place, torch.zeros_like(place)).to(torch.int64)
        found.append((voxel, share, counts))
    return found


def grid_sample_3d(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Sample a volume at points; see `grid_sample_3d_op`.

    Argument order of torch.nn.functional.grid_sample, and of DrivingSDK's grid_sampler3d_v1.

    Args:
        input: (batch, channels, depth, height, width).
        grid: (batch, out depth, out height, out width, 3), x, y and z in [-1, 1].
        mode: "bilinear" or "nearest".
        padding_mode: "zeros", "border" or "reflection".
        align_corners: Whether -1 and 1 are the centres of the corner voxels.

    Returns:
        (batch, channels, out depth, out height, out width).

    Raises:
        ValueError: `mode` or `padding_mode` is another one.
    """
    if mode not in _MODES:
        raise ValueError(f"mode is '{mode}', but must be one of {', '.join(_MODES)}")
    if padding_mode not in _PADDINGS:
        raise ValueError(
            f"padding_mode is '{padding_mode}', but must be one of {', '.join(_PADDINGS)}"
        )
    found: Tensor = grid_sample_3d_op(
        input, grid, _MODES.index(mode), _PADDINGS.index(padding_mode), align_corners
    )
    return found
