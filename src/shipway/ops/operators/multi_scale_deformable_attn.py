"""Multi-scale deformable attention: each query looks at a few points of several feature maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shipway.ops.cuda_multi_scale_deformable_attn import SOURCE
from shipway.ops.defining import custom_op
from shipway.ops.definition import Alias, Kernel, Sample

__all__ = ["multi_scale_deformable_attn", "multi_scale_deformable_attn_op"]

_ATC = "Ascend/DrivingSDK onnx_plugin/onnx_multi_scale_deformable_attn.cpp, e667017"


def _inputs(
    generator: np.random.Generator,
    levels: Sequence[tuple[int, int]],
    *,
    batch: int = 2,
    queries: int = 11,
    heads: int = 2,
    channels: int = 16,
    points: int = 3,
    reach: float = 0.2,
) -> tuple[Tensor, ...]:
    """Make one set of inputs; locations reach over each border by `reach`."""
    pixels = sum(height * width for height, width in levels)
    value = torch.from_numpy(generator.standard_normal((batch, pixels, heads, channels)))
    shapes = torch.tensor(levels, dtype=torch.int64).reshape(len(levels), 2)
    areas = [height * width for height, width in levels]
    starts = torch.tensor([0, *np.cumsum(areas)[:-1]][: len(levels)], dtype=torch.int64)
    size = (batch, queries, heads, len(levels), points)
    locations = torch.from_numpy(generator.uniform(-reach, 1 + reach, (*size, 2)))
    weights = torch.from_numpy(generator.uniform(0, 1, size))
    return value, shapes, starts, locations, weights


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    yield Sample("two levels", _inputs(generator, [(9, 7), (5, 4)]))
    yield Sample("other sizes", _inputs(generator, [(6, 11), (3, 5)], batch=3, queries=5))
    yield Sample("four levels", _inputs(generator, [(8, 9), (4, 5), (2, 3), (1, 2)], points=4))
    for channels in (1, 3, 8, 17, 32, 40, 64):
        name = f"{channels} channels"
        yield Sample(name, _inputs(generator, [(5, 6)], heads=3, channels=channels, queries=70))
    yield Sample("many points", _inputs(generator, [(7, 7)], points=9, queries=40))
    yield Sample("one pixel", _inputs(generator, [(1, 1)], reach=1.0))
    yield Sample("far outside", _inputs(generator, [(4, 4)], reach=1e6))
    yield Sample("no query", _inputs(generator, [(4, 4)], queries=0))
    yield Sample("no batch", _inputs(generator, [(4, 4)], batch=0))
    lost = _inputs(generator, [(6, 5)])
    lost[3][0, :3, 0, 0, 0, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    yield Sample("locations that are none", lost)
    hole = _inputs(generator, [(6, 5)])
    hole[0][0, 7] = torch.nan
    yield Sample("NaN in value", hole)
    yield Sample("a large plane", _inputs(generator, [(200, 200)], channels=8, queries=50))
    yield Sample(
        "for the gradient",
        _inputs(generator, [(4, 3)], batch=1, queries=2, channels=2, points=2, reach=-0.3),
        gradient=True,
    )


def _shape(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    del spatial_shapes, level_start_index, attention_weights
    sizes = (value.shape[0], sampling_locations.shape[1], value.shape[2] * value.shape[3])
    return value.new_empty(sizes)


@custom_op(
    "shipway::multi_scale_deformable_attn",
    schema="(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
    "Tensor sampling_locations, Tensor attention_weights) -> Tensor",
    types="TIITT->T",
    shape=_shape,
    samples=_samples,
    kernel=Kernel(cuda=SOURCE, launch="shipway.ops.cuda_multi_scale_deformable_attn:launch_rule"),
    aliases=(
        Alias("npu", "MultiScaleDeformableAttn", index="int32", source=_ATC),
        Alias("", "MultiScaleDeformableAttn", "int32", tuple(range(8, 14)), _ATC),
    ),
    pure=True,
)
def multi_scale_deformable_attn_op(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum bilinear samples of several feature maps, weighted for each query and head.

    Sizes of the levels are data, so nothing here depends on their values: pixels are gathered by
    their index. A corner outside its level counts nothing, whatever is stored elsewhere, and so
    does a point whose location is NaN or infinite.

    Args:
        value: (batch, pixels, heads, channels), the levels one after another.
        spatial_shapes: (levels, 2), height and width.
        level_start_index: (levels,), first pixel of each level.
        sampling_locations: (batch, queries, heads, levels, points, 2), x and y in [0, 1].
        attention_weights: (batch, queries, heads, levels, points).

    Returns:
        (batch, queries, heads * channels).

    Source: Deformable DETR (Zhu et al. 2021); layouts of mmcv.ops.multi_scale_deform_attn.
    """
    batch, _, heads, channels = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    levels = sampling_locations.shape[3]
    height, width = (spatial_shapes[:, axis].reshape(1, 1, 1, levels, 1) for axis in (0, 1))
    start = level_start_index.reshape(1, 1, 1, levels, 1)
    x = sampling_locations[..., 0] * width - 0.5
    y = sampling_locations[..., 1] * height - 0.5
    inside = (x > -1) & (y > -1) & (x < width) & (y < height)
    x, y = (torch.where(inside, place, torch.zeros_like(place)) for place in (x, y))
    left, top = torch.floor(x), torch.floor(y)
    planes = value.permute(0, 2, 1, 3)
    result = torch.zeros((batch, queries, heads, channels), dtype=value.dtype, device=value.device)
    for down in (0, 1):
        for right in (0, 1):
            column, row = left + right, top + down
            counts = inside & (column >= 0) & (row >= 0) & (column < width) & (row < height)
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs()) * attention_weights
            index = start + row.to(torch.int64) * width + column.to(torch.int64)
            index = torch.where(counts, index, torch.zeros_like(index))
            flat = index.permute(0, 2, 1, 3, 4).reshape(batch, heads, queries * levels * points, 1)
            pixels = torch.gather(planes, 2, flat.expand(-1, -1, -1, channels))
            pixels = pixels.reshape(batch, heads, queries, levels * points, channels)
            shown = counts.permute(0, 2, 1, 3, 4).reshape(batch, heads, queries, levels * points, 1)
            share = weight.permute(0, 2, 1, 3, 4).reshape(batch, heads, queries, levels * points, 1)
            part = torch.where(shown, pixels * share, torch.zeros_like(pixels))
            result = result + part.sum(3).permute(0, 2, 1, 3)
    return result.reshape(batch, queries, heads * channels)


def multi_scale_deformable_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum bilinear samples of several feature maps; see `multi_scale_deformable_attn_op`.

    Name and argument order of DrivingSDK's mx_driving.multi_scale_deformable_attn.

    Args:
        value: (batch, pixels, heads, channels).
        spatial_shapes: (levels, 2), int64 or int32.
        level_start_index: (levels,), int64 or int32.
        sampling_locations: (batch, queries, heads, levels, points, 2).
        attention_weights: (batch, queries, heads, levels, points).

    Returns:
        (batch, queries, heads * channels).
    """
    found: Tensor = multi_scale_deformable_attn_op(
        value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    )
    return found
