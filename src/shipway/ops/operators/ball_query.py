"""Points inside a ball (or shell) around each centre, as PointNet++ groups them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = ["ball_query", "ball_query_op"]


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def points(*shape: int) -> Tensor:
        return torch.from_numpy(generator.uniform(-1, 1, (*shape, 3)))

    usual = {"min_radius": 0.0, "max_radius": 0.6, "sample_num": 8}
    yield Sample("usual", (points(2, 50), points(2, 9)), usual)
    yield Sample("shell", (points(1, 40), points(1, 5)), {**usual, "min_radius": 0.3})
    yield Sample("one point", (points(1, 1), points(1, 1)), usual)
    yield Sample("nothing near", (points(1, 7) + 9, points(1, 3)), usual)
    yield Sample("no centre", (points(1, 7), points(1, 0)), usual)
    yield Sample("no point", (points(1, 0), points(1, 3)), usual)
    yield Sample(
        "more wanted than there are", (points(1, 3), points(1, 2)), {**usual, "sample_num": 5}
    )
    hollow = points(1, 6)
    hollow[0, 2] = torch.nan
    yield Sample("NaN", (hollow, points(1, 4)), usual)


def _shape(xyz: Tensor, center_xyz: Tensor, *attributes: float) -> Tensor:
    sample_num = int(attributes[2])
    return xyz.new_empty((*center_xyz.shape[:2], sample_num), dtype=torch.int32)


@custom_op(
    "shipway::ball_query",
    schema="(Tensor xyz, Tensor center_xyz, float min_radius, float max_radius, int sample_num) -> Tensor",
    types="TT->i",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    differentiable=False,
    pure=True,
)
def ball_query_op(
    xyz: Tensor, center_xyz: Tensor, min_radius: float, max_radius: float, sample_num: int
) -> Tensor:
    """Find up to `sample_num` points between two radii of each centre, in the order of the points.

    Args:
        xyz: (batch, points, 3).
        center_xyz: (batch, centres, 3).
        min_radius: Smallest distance; a point in the very centre counts whatever it is.
        max_radius: Distance that is no longer inside.
        sample_num: Indices a centre.

    Returns:
        (batch, centres, sample_num) int32 indices of points. Places left over repeat the first
        point found; a centre without any has zeros.
    """
    count = xyz.shape[1]
    # The same order of operations as the kernel, so that a point on the rim is on the same side.
    delta = center_xyz[:, :, None] - xyz[:, None]
    squared = (
        delta[..., 0] * delta[..., 0]
        + delta[..., 1] * delta[..., 1]
        + delta[..., 2] * delta[..., 2]
    )
    inside = (squared == 0) | (
        (squared >= min_radius * min_radius) & (squared < max_radius * max_radius)
    )
    order = torch.arange(count, device=xyz.device).expand(inside.shape)
    padding = torch.full(
        (*inside.shape[:2], sample_num), count, device=xyz.device, dtype=torch.int64
    )
    candidates = torch.cat((torch.where(inside, order, count), padding), dim=-1)
    found = torch.sort(candidates, dim=-1).values[..., :sample_num]
    first = torch.where(found[..., :1] == count, 0, found[..., :1])
    return torch.where(found == count, first, found).to(torch.int32)


def ball_query(
    min_radius: float, max_radius: float, sample_num: int, xyz: Tensor, center_xyz: Tensor
) -> Tensor:
    """Find points between two radii of each centre; see `ball_query_op`.

    Argument order of mmcv.ops.ball_query.

    Args:
        min_radius: Smallest distance.
        max_radius: Distance that is no longer inside.
        sample_num: Indices a centre.
        xyz: (batch, points, 3).
        center_xyz: (batch, centres, 3).

    Returns:
        (batch, centres, sample_num) int32.
    """
    found: Tensor = ball_query_op(xyz, center_xyz, min_radius, max_radius, sample_num)
    return found
