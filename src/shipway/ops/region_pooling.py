"""Regions of a feature map, upright or rotated: what their pooling has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.ops.definition import Sample

__all__ = ["pool_regions", "pooled_shape", "random_regions", "region_samples"]


def random_regions(
    generator: np.random.Generator, count: int, images: int, *, rotated: bool
) -> Tensor:
    """Return (count, 5) boxes or (count, 6) rotated ones, of so many images; some reach outside."""
    plane = generator.integers(0, images, (count, 1)) if images else np.zeros((count, 1))
    start = generator.uniform(-3, 18, (count, 2))
    size = generator.uniform(1, 14, (count, 2))
    angle = generator.uniform(-3, 3, (count, 1))
    rest = (size, angle) if rotated else (start + size,)
    return torch.from_numpy(np.concatenate((plane, start, *rest), 1))


def region_samples(generator: np.random.Generator, *, rotated: bool) -> Iterator[Sample]:
    """Give the samples that both kinds of regions are verified with."""

    def plane(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    def boxes(count: int, images: int) -> Tensor:
        return random_regions(generator, count, images, rotated=rotated)

    usual = {"output_height": 3, "output_width": 4, "spatial_scale": 0.5, "sampling_ratio": 2}
    yield Sample("usual", (plane(2, 3, 9, 11), boxes(5, 2)), usual)
    yield Sample("other sizes", (plane(3, 2, 12, 7), boxes(4, 3)), usual)
    yield Sample("adaptive", (plane(2, 3, 9, 11), boxes(5, 2)), {**usual, "sampling_ratio": 0})
    yield Sample("not aligned", (plane(2, 3, 9, 11), boxes(5, 2)), {**usual, "aligned": False})
    yield Sample("no region", (plane(2, 3, 9, 11), boxes(0, 2)), usual)
    single = {"output_height": 1, "output_width": 1, "sampling_ratio": 1}
    yield Sample("one pixel", (plane(1, 1, 1, 1), boxes(3, 1)), single)
    far = boxes(4, 1)
    far[:, 1:5] *= 1e3
    yield Sample("far outside", (plane(1, 2, 6, 5), far), usual)
    hole = plane(1, 2, 9, 11)
    hole[0, 0, 4, 4] = torch.nan
    yield Sample("NaN", (hole, boxes(4, 1)), usual)
    yield Sample("a larger plane", (plane(1, 16, 64, 50), boxes(20, 1)), usual)
    small = boxes(2, 1)
    small[:, 1:3] = torch.tensor([[2.13, 1.41], [1.27, 2.33]])
    small[:, 3:5] = torch.tensor([[1.7, 2.3], [2.9, 1.3]]) + (0 if rotated else small[:, 1:3])
    yield Sample("for the gradient", (plane(1, 1, 5, 6), small), single, gradient=True)


def pooled_shape(
    features: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    *attributes: Any,
    **more: Any,
) -> Tensor:
    """Shape rule of both operators."""
    del attributes, more
    return features.new_empty((rois.shape[0], features.shape[1], output_height, output_width))


def _read_clamped(planes: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Read (n, channels, pixels) at (n, places); up to a pixel outside the border counts."""
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    total = torch.zeros_like(planes[:, :, :1] * y[:, None])
    y, x = (torch.where(inside, place, torch.zeros_like(place)) for place in (y, x))
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = torch.floor(y), torch.floor(x)
    for down in (0, 1):
        for right in (0, 1):
            row, column = (top + down).clamp(max=height - 1), (left + right).clamp(max=width - 1)
            vertical = y - top if down else 1 - (y - top)
            horizontal = x - left if right else 1 - (x - left)
            index = row.to(torch.int64) * width + column.to(torch.int64)
            pixels = torch.gather(planes, 2, index[:, None].expand(-1, planes.shape[1], -1))
            total = total + pixels * (vertical * horizontal)[:, None]
    return torch.where(inside[:, None], total, torch.zeros_like(total))


def _grid(bins: Tensor, sampling: int) -> tuple[Tensor, Tensor]:
    """Return how many samples each bin has on an axis, and the indices up to the most of them."""
    if sampling > 0:
        count = torch.full_like(bins, sampling)
        return count, torch.arange(sampling, device=bins.device)
    count = torch.ceil(bins).clamp(min=0)
    most = torch.cat((count, count.new_zeros(1))).max()
    return count, torch.arange(most.to(torch.int64).item(), device=bins.device)


def pool_regions(
    features: Tensor,
    plane: Tensor,
    bins: tuple[Tensor, Tensor],
    size: tuple[int, int],
    sampling: int,
    place: Any,
    *,
    largest: bool = False,
) -> Tensor:
    """Sample every bin of every region and average, or take the largest.

    Args:
        features: (images, channels, height, width).
        plane: (regions,) image of each.
        bins: (regions,) height and width of a bin, in pixels.
        size: Bins down and across.
        sampling: Samples of a bin on each axis; 0 takes one a pixel, rounded up.
        place: Gives y and x in the image for steps down and across a region, all five-dimensional:
            regions, bins down, bins across, samples down, samples across.
        largest: The largest sample instead of the average.

    Returns:
        (regions, channels, bins down, bins across); 0 where a bin has no sample.
    """
    _, channels, height, width = features.shape
    regions = plane.shape[0]
    counts, offsets = [], []
    for axis, (bin_size, number) in enumerate(zip(bins, size, strict=True)):
        count, index = _grid(bin_size, sampling)
        parts = (index + 0.5) * bin_size[:, None] / count.clamp(min=1)[:, None]
        starts = torch.arange(number, device=features.device) * bin_size[:, None]
        counts.append(index < count[:, None])
        each = index.shape[0]
        shape = (regions, number, 1, each, 1) if axis == 0 else (regions, 1, number, 1, each)
        offsets.append((starts[:, :, None] + parts[:, None]).reshape(shape))
    counted = counts[0][:, None, None, :, None] & counts[1][:, None, None, None, :]
    y, x = place(*torch.broadcast_tensors(*offsets))
    planes = features.reshape(features.shape[0], channels, height * width)[plane]
    shape = y.shape
    places = shape[1] * shape[2] * shape[3] * shape[4]
    read = _read_clamped(
        planes, y.reshape(regions, places), x.reshape(regions, places), height, width
    )
    # Samples in the middle: ONNX Runtime 1.31 keeps the last axis of an empty tensor when it reduces.
    samples, bins_each = shape[3] * shape[4], size[0] * size[1]
    read = read.reshape(regions, channels, bins_each, samples).transpose(2, 3)
    counted = counted.expand(shape).reshape(regions, 1, bins_each, samples).transpose(2, 3)
    if largest:
        found = torch.where(counted, read, torch.full_like(read, -torch.inf)).amax(2)
        found = torch.where(counted.any(2), found, torch.zeros_like(found))
    else:
        total = torch.where(counted, read, torch.zeros_like(read)).sum(2)
        found = total / counted.sum(2).clamp(min=1)
    return found.reshape(regions, channels, *size)
