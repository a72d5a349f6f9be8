"""Points as far from each other as can be found step by step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.looping import repeat_while

__all__ = ["furthest_point_sample", "furthest_point_sample_op"]


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def points(*shape: int) -> Tensor:
        return torch.from_numpy(generator.uniform(-1, 1, (*shape, 3)))

    yield Sample("usual", (points(2, 40),), {"num_points": 9})
    yield Sample("other sizes", (points(3, 25),), {"num_points": 9})
    yield Sample("one point", (points(2, 1),), {"num_points": 9})
    yield Sample("one wanted", (points(2, 5),), {"num_points": 1})
    yield Sample("no batch", (points(0, 5),), {"num_points": 9})
    same = points(1, 6)
    same[:] = same[:, :1].clone()
    yield Sample("the same point", (same,), {"num_points": 4})
    hollow = points(1, 8)
    hollow[0, 5] = torch.nan
    yield Sample("NaN", (hollow,), {"num_points": 4})
    yield Sample("many", (points(1, 500),), {"num_points": 40})


def _shape(points: Tensor, num_points: int) -> Tensor:
    return points.new_empty((points.shape[0], num_points), dtype=torch.int32)


@custom_op(
    "shipway::furthest_point_sample",
    schema="(Tensor points, int num_points) -> Tensor",
    types="T->i",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    differentiable=False,
    pure=True,
)
def furthest_point_sample_op(points: Tensor, num_points: int) -> Tensor:
    """Pick points, each next one the furthest from those picked; the first one is point 0.

    Of points as far as each other the first is picked. The portable body is an ONNX Loop of
    `num_points` steps.

    Args:
        points: (batch, points, 3).
        num_points: How many to pick.

    Returns:
        (batch, num_points) int32 indices.

    Source: PointNet++ (Qi et al. 2017); as mmcv.ops.furthest_point_sample.
    """
    columns = torch.arange(num_points, device=points.device)

    def unfinished(turn: Tensor, *_: Tensor) -> Tensor:
        return (turn < num_points).reshape(())

    def step(
        turn: Tensor, nearest: Tensor, last: Tensor, picks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        picks = torch.where(columns == turn, last[:, None], picks)
        picked = torch.gather(points, 1, last[:, None, None].expand(-1, 1, 3))
        delta = points - picked
        # The same order of operations as the kernel, so that ties fall to the same side.
        squared = (
            delta[..., 0] * delta[..., 0]
            + delta[..., 1] * delta[..., 1]
            + delta[..., 2] * delta[..., 2]
        )
        nearest = torch.where(squared < nearest, squared, nearest)
        return turn + 1, nearest, nearest.argmax(1), picks

    first = torch.zeros_like(points[:, 0, 0], dtype=torch.int64)
    *_, picks = repeat_while(
        unfinished,
        step,
        torch.zeros(1, dtype=torch.int64, device=points.device),
        torch.full_like(points[..., 0], torch.inf),
        first,
        first[:, None] + torch.zeros_like(columns),
    )
    return picks.to(torch.int32)


def furthest_point_sample(points: Tensor, num_points: int) -> Tensor:
    """Pick points far from each other; see `furthest_point_sample_op`.

    Argument order of mmcv.ops.furthest_point_sample.

    Args:
        points: (batch, points, 3).
        num_points: How many to pick.

    Returns:
        (batch, num_points) int32.
    """
    found: Tensor = furthest_point_sample_op(points, num_points)
    return found
