"""Rotated regions of a feature map brought to one size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.region_pooling import pool_regions, pooled_shape, random_regions, region_samples

__all__ = ["RoIAlignRotated", "roi_align_rotated", "roi_align_rotated_op"]


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    yield from region_samples(generator, rotated=True)
    clockwise = {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "clockwise": True}
    tensors = torch.from_numpy(generator.standard_normal((2, 3, 9, 11)))
    yield Sample("clockwise", (tensors, random_regions(generator, 5, 2, rotated=True)), clockwise)


@custom_op(
    "shipway::roi_align_rotated",
    schema="(Tensor input, Tensor rois, int output_height, int output_width, "
    "float spatial_scale=1.0, int sampling_ratio=0, bool aligned=True, bool clockwise=False) "
    "-> Tensor",
    types="TT->T",
    shape=pooled_shape,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
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
    return pool_regions(input, plane, bins, (output_height, output_width), sampling_ratio, place)


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
