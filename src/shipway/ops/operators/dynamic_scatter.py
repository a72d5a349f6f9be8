"""Features of points reduced to one row a voxel, for as many points and voxels as there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.operators.scatter import largest_of_rows
from shipway.ops.ranking import dense_ranks

__all__ = ["DynamicScatter", "dynamic_scatter", "dynamic_scatter_op"]

_REDUCTIONS = ("max", "mean", "sum")


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def feats(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    def cells(count: int, axes: int = 3, least: int = -1) -> Tensor:
        return torch.from_numpy(generator.integers(least, 4, (count, axes)))

    # A body has its number of axes fixed, so each reduction has a number of its own.
    for at, (name, axes) in enumerate(zip(_REDUCTIONS, (3, 4, 1), strict=True)):
        how = {"reduce": at}
        yield Sample(name, (feats(60, 5), cells(60, axes)), how)
        yield Sample(f"{name} of other numbers", (feats(37, 2), cells(37, axes)), how)
        yield Sample(f"{name} of one point", (feats(1, 3), cells(1, axes, least=0)), how)
        yield Sample(f"{name} of no point", (feats(0, 5), cells(0, axes)), how)
        yield Sample(f"{name} of none inside", (feats(6, 5), cells(6, axes) - 9), how)
        hole = feats(60, 5)
        hole[7, 2] = torch.nan
        yield Sample(f"{name} with NaN", (hole, cells(60, axes)), how)
        places = torch.tensor([[0] * axes, [0] * axes, [-1] * axes, [3] * axes])
        yield Sample(f"gradient of {name}", (feats(4, 2), places), how, gradient=True)
    large = torch.from_numpy(generator.integers(0, 40, (3000, 3))) * 500
    yield Sample("many", (feats(3000, 16), large), {"reduce": 0})


def _shape(feats: Tensor, coors: Tensor, reduce: int = 0) -> tuple[Tensor, Tensor]:
    del reduce
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        feats.new_empty((count, feats.shape[1])),
        feats.new_empty((count, coors.shape[1]), dtype=torch.int64),
    )


@custom_op(
    "shipway::dynamic_scatter",
    schema="(Tensor feats, Tensor coors, int reduce=0) -> (Tensor, Tensor)",
    types="TI->Tl",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
)
def dynamic_scatter_op(feats: Tensor, coors: Tensor, reduce: int = 0) -> tuple[Tensor, Tensor]:
    """Reduce the features of the points of each voxel to one row.

    The portable body has its number of axes fixed. Where an engine computes int64 in int32, as
    OpenVINO does, it is exact as long as coordinates are below 2^24 and the number of points times
    the largest of each axis is below 2^31. The kernel compares coordinates and has no such limit.

    Args:
        feats: (points, channels). A NaN is larger than any number.
        coors: (points, axes) voxel of each point; a point with a negative coordinate is left out.
        reduce: 0 takes the largest, 1 the mean, 2 the sum.

    Returns:
        (voxels, channels), and the (voxels, axes) int64 coordinates in ascending order, the first
        axis first. The gradient of the largest goes to the first of equal ones.

    Source: mmcv.ops.dynamic_scatter; mx_driving.dynamic_scatter.
    """
    kept = torch.nonzero((coors >= 0).all(1))[:, 0]
    rows, cells = feats[kept], coors[kept]
    # The row of zeros is for no point at all, which has no largest coordinate.
    sizes = torch.cat((cells, cells.new_zeros((1, coors.shape[1])))).amax(0) + 1
    key = cells[:, 0]
    for axis in range(1, coors.shape[1]):
        key = dense_ranks(key) * sizes[axis] + cells[:, axis]
    voxel = dense_ranks(key)
    count = (torch.cat((voxel, voxel.new_full((1,), -1))).max() + 1).item()
    shape, places = (count, feats.shape[1]), voxel[:, None].expand_as(rows)
    if reduce == 0:
        reduced, _ = largest_of_rows(rows, places, 0, shape)
    else:
        reduced = rows.new_zeros(shape).scatter_add(0, places, rows)
    if reduce == 1:
        ones = torch.ones_like(rows)
        reduced = reduced / rows.new_zeros(shape).scatter_add(0, places, ones)
    # Any point of a voxel has its coordinates.
    return reduced, cells.new_zeros((count, coors.shape[1])).scatter(
        0, voxel[:, None].expand_as(cells), cells
    )


def dynamic_scatter(
    feats: Tensor, coors: Tensor, reduce_type: str = "max"
) -> tuple[Tensor, Tensor]:
    """Reduce the features of the points of each voxel; see `dynamic_scatter_op`.

    Argument order of mmcv.ops.dynamic_scatter.

    Args:
        feats: (points, channels).
        coors: (points, axes) int32 or int64; a point with a negative coordinate is left out.
        reduce_type: "max", "mean" or "sum".

    Returns:
        (voxels, channels), and (voxels, axes) in the dtype of `coors`.

    Raises:
        ValueError: There is no such reduction.
    """
    if reduce_type not in _REDUCTIONS:
        raise ValueError(
            f"reduce_type is '{reduce_type}', but must be one of {', '.join(_REDUCTIONS)}"
        )
    values: Tensor
    places: Tensor
    values, places = dynamic_scatter_op(feats, coors, _REDUCTIONS.index(reduce_type))
    return values, places.to(coors.dtype)


class DynamicScatter(nn.Module):
    """`dynamic_scatter` with its settings kept, as mmcv.ops.DynamicScatter."""

    def __init__(
        self,
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        average_points: bool,
    ) -> None:
        """Keep the settings.

        Args:
            voxel_size: Size of a cell along x, y, z; kept for those who read it.
            point_cloud_range: Least x, y, z and largest x, y, z; kept for those who read it.
            average_points: Whether to take the mean instead of the largest.
        """
        super().__init__()
        self.voxel_size, self.point_cloud_range = voxel_size, point_cloud_range
        self.average_points = average_points

    def forward(self, points: Tensor, coors: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce (points, channels), whose `coors` are z, y, x, or batch, z, y, x."""
        return dynamic_scatter(points, coors, "mean" if self.average_points else "max")
