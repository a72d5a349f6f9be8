"""Camera features, weighted by their depths, summed into a bird's-eye view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = ["bev_pool_v2", "bev_pool_v2_op"]

_SHAPE = (2, 2, 5, 4, 6)  # batch, z, y, x, channels


def _inputs(
    generator: np.random.Generator,
    points: int,
    *,
    shape: Sequence[int] = _SHAPE,
    cameras: int = 2,
    depths: int = 3,
    size: tuple[int, int] = (4, 5),
) -> tuple[Tensor, ...]:
    batch, channels = shape[0], shape[4]
    depth = torch.from_numpy(generator.uniform(0, 1, (batch, cameras, depths, *size)))
    feat = torch.from_numpy(generator.standard_normal((batch, cameras, *size, channels)))
    cells = np.sort(generator.integers(0, batch * shape[1] * shape[2] * shape[3], points))
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    ranks = (
        generator.integers(0, max(depth.numel(), 1), points),
        generator.integers(0, max(feat.numel() // channels, 1), points),
        cells,
        starts,
        np.diff(starts, append=points),
    )
    return depth, feat, *(torch.from_numpy(one.astype(np.int64)) for one in ranks)


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    usual = {"bev_feat_shape": list(_SHAPE)}
    yield Sample("usual", _inputs(generator, 90), usual)
    yield Sample("other numbers", _inputs(generator, 55, cameras=3, size=(3, 7)), usual)
    yield Sample("one point", _inputs(generator, 1), usual)
    yield Sample("no point", _inputs(generator, 0), usual)
    hole = _inputs(generator, 90)
    hole[1][0, 0, 0, 0] = torch.nan
    yield Sample("NaN", hole, usual)
    larger = (1, 1, 32, 32, 40)
    wide = _inputs(generator, 3000, shape=larger, size=(8, 11), depths=20)
    yield Sample("a larger plane", wide, {"bev_feat_shape": list(larger)})
    small = _inputs(generator, 6, shape=(1, 1, 2, 2, 2), cameras=1, depths=2, size=(2, 1))
    yield Sample("for the gradient", small, {"bev_feat_shape": [1, 1, 2, 2, 2]}, gradient=True)


def _shape(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    interval_starts: Tensor,
    interval_lengths: Tensor,
    bev_feat_shape: Sequence[int],
) -> Tensor:
    del depth, ranks_depth, ranks_feat, ranks_bev, interval_starts, interval_lengths
    batch, z, y, x, channels = bev_feat_shape
    return feat.new_empty((batch, channels, z, y, x))


@custom_op(
    "shipway::bev_pool_v2",
    schema="(Tensor depth, Tensor feat, Tensor ranks_depth, Tensor ranks_feat, Tensor ranks_bev, "
    "Tensor interval_starts, Tensor interval_lengths, int[] bev_feat_shape) -> Tensor",
    types="TTIIIII->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
)
def bev_pool_v2_op(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    interval_starts: Tensor,
    interval_lengths: Tensor,
    bev_feat_shape: Sequence[int],
) -> Tensor:
    """Sum camera features into the cells of a bird's-eye view, each weighted by a depth.

    Points are sorted by their cell, and the intervals are the runs of one cell: the kernel relies
    on that, and refuses anything else.

    Args:
        depth: (batch, cameras, depths, height, width).
        feat: (batch, cameras, height, width, channels).
        ranks_depth: (points,) places in `depth`, flattened.
        ranks_feat: (points,) pixels of `feat`, flattened.
        ranks_bev: (points,) cells of the view, flattened, in ascending order.
        interval_starts: (cells in use,) first point of each run.
        interval_lengths: (cells in use,) length of each run.
        bev_feat_shape: batch, z, y, x, channels.

    Returns:
        (batch, channels, z, y, x).

    Source: BEVPoolv2 (Huang and Huang 2022); as in BEVDet and mx_driving.bev_pool_v2.
    """
    del interval_starts, interval_lengths  # they follow from ranks_bev
    batch, z, y, x, channels = bev_feat_shape
    rows = depth.reshape(-1)[ranks_depth][:, None] * feat.reshape(-1, channels)[ranks_feat]
    view = feat.new_zeros((batch * z * y * x, channels))
    view = view.scatter_add(0, ranks_bev[:, None].expand(-1, channels), rows)
    return view.reshape(batch, z, y, x, channels).permute(0, 4, 1, 2, 3)


def bev_pool_v2(
    depth: Tensor,
    feat: Tensor,
    ranks_depth: Tensor,
    ranks_feat: Tensor,
    ranks_bev: Tensor,
    bev_feat_shape: Sequence[int],
    interval_starts: Tensor,
    interval_lengths: Tensor,
) -> Tensor:
    """Sum camera features into a bird's-eye view; see `bev_pool_v2_op`. Argument order of BEVDet.

    Args:
        depth: (batch, cameras, depths, height, width).
        feat: (batch, cameras, height, width, channels).
        ranks_depth: (points,) places in `depth`.
        ranks_feat: (points,) pixels of `feat`.
        ranks_bev: (points,) cells of the view, in ascending order.
        bev_feat_shape: batch, z, y, x, channels.
        interval_starts: First point of each run of one cell.
        interval_lengths: Length of each run.

    Returns:
        (batch, channels, z, y, x).
    """
    found: Tensor = bev_pool_v2_op(
        depth,
        feat,
        ranks_depth,
        ranks_feat,
        ranks_bev,
        interval_starts,
        interval_lengths,
        [int(size) for size in bev_feat_shape],
    )
    return found
