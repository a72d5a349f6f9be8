"""Upright regions of a feature map brought to one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.region_pooling import pool_regions, pooled_shape, random_regions, region_samples

__all__ = ["RoIAlign", "roi_align", "roi_align_op"]


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    yield from region_samples(generator, rotated=False)
    largest = {"output_height": 2, "output_width": 2, "sampling_ratio": 2, "max_pool": True}
    tensors = torch.from_numpy(generator.standard_normal((2, 3, 9, 11)))
    boxes = random_regions(generator, 5, 2, rotated=False)
    yield Sample("largest of each bin", (tensors, boxes), largest)


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
    shape=pooled_shape,
    samples=_samples,
    kernel=BUILT_IN,
    standard=_standard,
    pure=True,
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
    return pool_regions(input, plane, bins, size, sampling_ratio, place, largest=max_pool)


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
