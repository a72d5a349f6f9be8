"""Regions of a feature map brought to one size: upright boxes and rotated ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = [
    "RoIAlign",
    "RoIAlignRotated",
    "roi_align",
    "roi_align_op",
    "roi_align_rotated",
    "roi_align_rotated_op",
]


def _boxes(generator: np.random.Generator, count: int, images: int, *, rotated: bool) -> Tensor:
    plane = generator.integers(0, images, (count, 1)) if images else np.zeros((count, 1))
    start = generator.uniform(-3, 18, (count, 2))
    size = generator.uniform(1, 14, (count, 2))
    angle = generator.uniform(-3, 3, (count, 1))
    rest = (size, angle) if rotated else (start + size,)
    return torch.from_numpy(np.concatenate((plane, start, *rest), 1))


def _samples_of(generator: np.random.Generator, *, rotated: bool) -> Iterator[Sample]:
    def plane(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    def boxes(count: int, images: int) -> Tensor:
        return _boxes(generator, count, images, rotated=rotated)

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


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    yield from _samples_of(generator, rotated=False)
    largest = {"output_height": 2, "output_width": 2, "sampling_ratio": 2, "max_pool": True}
    tensors = torch.from_numpy(generator.standard_normal((2, 3, 9, 11)))
    boxes = _boxes(generator, 5, 2, rotated=False)
    yield Sample("largest of each bin", (tensors, boxes), largest)


def _samples_rotated(generator: np.random.Generator) -> Iterator[Sample]:
    yield from _samples_of(generator, rotated=True)
    clockwise = {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "clockwise": True}
    tensors = torch.from_numpy(generator.standard_normal((2, 3, 9, 11)))
    yield Sample("clockwise", (tensors, _boxes(generator, 5, 2, rotated=True)), clockwise)


def _shape(
    input: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    *attributes: Any,
    **more: Any,
) -> Tensor:
    del attributes, more
    return input.new_empty((rois.shape[0], input.shape[1], output_height, output_width))


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


def _pool(
    input: Tensor,
    plane: Tensor,
    bins: tuple[Tensor, Tensor],
    size: tuple[int, int],
    sampling: int,
    place: Any,
    *,
    largest: bool = False,
) -> Tensor:
    """Sample every bin of every region at `place(down, across)` and average, or take the largest."""
    _, channels, height, width = input.shape
    regions = plane.shape[0]
    counts, offsets = [], []
    for axis, (bin_size, number) in enumerate(zip(bins, size, strict=True)):
        count, index = _grid(bin_size, sampling)
        parts = (index + 0.5) * bin_size[:, None] / count.clamp(min=1)[:, None]
        starts = torch.arange(number, device=input.device) * bin_size[:, None]
        counts.append(index < count[:, None])
        each = index.shape[0]
        shape = (regions, number, 1, each, 1) if axis == 0 else (regions, 1, number, 1, each)
        offsets.append((starts[:, :, None] + parts[:, None]).reshape(shape))
    counted = counts[0][:, None, None, :, None] & counts[1][:, None, None, None, :]
    y, x = place(*torch.broadcast_tensors(*offsets))
    planes = input.reshape(input.shape[0], channels, height * width)[plane]
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


def _standard(op: Any, inputs: list[Any], attributes: Mapping[str, Any]) -> Any:
    """RoiAlign of ONNX, which averages the same way; its largest value is another one."""
    if attributes["max_pool"]:
        return None
    features, rois = (op.wide(one) for one in inputs)
    plane = op.Cast(op.Round(op.Gather(rois, np.array(0), axis=1)), to=7)
    boxes = op.Slice(rois, np.array([1]), np.array([5]), np.array([1]))
    found = op.RoiAlign(
        features,
        boxes,
        plane,
        output_height=attributes["output_height"],
        output_width=attributes["output_width"],
        sampling_ratio=attributes["sampling_ratio"],
        spatial_scale=attributes["spatial_scale"],
        coordinate_transformation_mode="half_pixel"
        if attributes["aligned"]
        else "output_half_pixel",
    )
    return op.narrow(found, inputs[0])


@custom_op(
    "shipway::roi_align",
    schema="(Tensor input, Tensor rois, int output_height, int output_width, "
    "float spatial_scale=1.0, int sampling_ratio=0, bool max_pool=False, bool aligned=True) "
    "-> Tensor",
    types="TT->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    standard=_standard,
)
def roi_align_op(
    input: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    max_pool: bool = False,
    aligned: bool = True,
) -> Tensor:
    """Pool upright regions of a feature map, sampled between its pixels, to one size.

    A bin without a sample (a region without area) is 0.

    Args:
        input: (images, channels, height, width).
        rois: (regions, 5): image, left, top, right, bottom.
        output_height: Bins down.
        output_width: Bins across.
        spatial_scale: Pixels of the map for one of the boxes' units.
        sampling_ratio: Samples of a bin on each axis; 0 takes one a pixel, rounded up.
        max_pool: The largest sample instead of their average.
        aligned: Centres of pixels lie at halves; False is the older way, with regions of a pixel
            at least.

    Returns:
        (regions, channels, output_height, output_width).

    Source: Mask R-CNN (He et al. 2017); as mmcv.ops.roi_align.
    """
    shift = 0.5 if aligned else 0.0
    start_x, start_y, end_x, end_y = (rois[:, at] * spatial_scale - shift for at in range(1, 5))
    width, height = end_x - start_x, end_y - start_y
    if not aligned:
        width, height = width.clamp(min=1), height.clamp(min=1)

    def place(down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        wide = (slice(None), *[None] * 4)
        return start_y[wide] + down, start_x[wide] + across

    bins = (height / output_height, width / output_width)
    plane = torch.round(rois[:, 0]).to(torch.int64)
    size = (output_height, output_width)
    return _pool(input, plane, bins, size, sampling_ratio, place, largest=max_pool)


@custom_op(
    "shipway::roi_align_rotated",
    schema="(Tensor input, Tensor rois, int output_height, int output_width, "
    "float spatial_scale=1.0, int sampling_ratio=0, bool aligned=True, bool clockwise=False) "
    "-> Tensor",
    types="TT->T",
    shape=_shape,
    samples=_samples_rotated,
    kernel=BUILT_IN,
)
def roi_align_rotated_op(
    input: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Pool rotated regions of a feature map, sampled between its pixels, to one size.

    Args:
        input: (images, channels, height, width).
        rois: (regions, 6): image, centre x, centre y, width, height, angle in radians.
        output_height: Bins down.
        output_width: Bins across.
        spatial_scale: Pixels of the map for one of the boxes' units.
        sampling_ratio: Samples of a bin on each axis; 0 takes one a pixel, rounded up.
        aligned: Centres of pixels lie at halves; False is the older way, with regions of a pixel
            at least.
        clockwise: Angles turn the other way.

    Returns:
        (regions, channels, output_height, output_width).

    Source: Arbitrary-oriented scene text detection (Ma et al. 2018); as mmcv.ops.roi_align_rotated.
    """
    shift = 0.5 if aligned else 0.0
    centre_x, centre_y = (rois[:, at] * spatial_scale - shift for at in (1, 2))
    width, height = rois[:, 3] * spatial_scale, rois[:, 4] * spatial_scale
    angle = -rois[:, 5] if clockwise else rois[:, 5]
    if not aligned:
        width, height = width.clamp(min=1), height.clamp(min=1)
    wide = (slice(None), *[None] * 4)
    sine, cosine = torch.sin(angle)[wide], torch.cos(angle)[wide]

    def place(down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        y, x = down - (height / 2)[wide], across - (width / 2)[wide]
        return y * cosine - x * sine + centre_y[wide], y * sine + x * cosine + centre_x[wide]

    bins = (height / output_height, width / output_width)
    plane = torch.round(rois[:, 0]).to(torch.int64)
    return _pool(input, plane, bins, (output_height, output_width), sampling_ratio, place)


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Pool upright regions to one size; see `roi_align_op`. Argument order of mmcv.ops.roi_align.

    Args:
        input: (images, channels, height, width).
        rois: (regions, 5): image, left, top, right, bottom.
        output_size: One number, or height and width.
        spatial_scale: Pixels of the map for one of the boxes' units.
        sampling_ratio: Samples of a bin on each axis; 0 takes one a pixel, rounded up.
        pool_mode: "avg" or "max".
        aligned: Centres of pixels lie at halves.

    Raises:
        ValueError: `pool_mode` is neither.
    """
    if pool_mode not in {"avg", "max"}:
        raise ValueError(f"pool_mode must be 'avg' or 'max', not '{pool_mode}'")
    height, width = _pair(output_size)
    largest = pool_mode == "max"
    found: Tensor = roi_align_op(
        input, rois, height, width, spatial_scale, sampling_ratio, largest, aligned
    )
    return found


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Pool rotated regions to one size; see `roi_align_rotated_op`.

    Argument order of mmcv.ops.roi_align_rotated.

    Args:
        input: (images, channels, height, width).
        rois: (regions, 6): image, centre x, centre y, width, height, angle in radians.
        output_size: One number, or height and width.
        spatial_scale: Pixels of the map for one of the boxes' units.
        sampling_ratio: Samples of a bin on each axis; 0 takes one a pixel, rounded up.
        aligned: Centres of pixels lie at halves.
        clockwise: Angles turn the other way.
    """
    height, width = _pair(output_size)
    found: Tensor = roi_align_rotated_op(
        input, rois, height, width, spatial_scale, sampling_ratio, aligned, clockwise
    )
    return found


class RoIAlign(nn.Module):
    """`roi_align` with its settings kept, as mmcv.ops.RoIAlign."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        pool_mode: str = "avg",
        aligned: bool = True,
    ) -> None:
        """Keep the settings."""
        super().__init__()
        self.output_size, self.spatial_scale = _pair(output_size), float(spatial_scale)
        self.sampling_ratio, self.pool_mode, self.aligned = int(sampling_ratio), pool_mode, aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool the regions."""
        return roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.pool_mode,
            self.aligned,
        )


class RoIAlignRotated(nn.Module):
    """`roi_align_rotated` with its settings kept, as mmcv.ops.RoIAlignRotated."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        aligned: bool = True,
        clockwise: bool = False,
    ) -> None:
        """Keep the settings."""
        super().__init__()
        self.output_size, self.spatial_scale = _pair(output_size), float(spatial_scale)
        self.sampling_ratio, self.aligned, self.clockwise = int(sampling_ratio), aligned, clockwise

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool the regions."""
        return roi_align_rotated(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
            self.clockwise,
        )
