"""Points sorted into the cells of a grid, as pillars and voxels need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.ranking import dense_ranks, stable_order

__all__ = [
    "Voxelization",
    "dynamic_voxelize",
    "dynamic_voxelize_op",
    "hard_voxelize",
    "hard_voxelize_op",
    "voxelization",
]

_GRID = {"voxel_size": [0.5, 0.25, 1.0], "coors_range": [0.0, -1.0, -2.0, 4.0, 1.0, 2.0]}


def _points(generator: np.random.Generator, count: int, columns: int = 4) -> Tensor:
    low, high = [-0.5, -1.25, -2.5], [4.5, 1.25, 2.5]
    places = generator.uniform(low, high, (count, 3))
    rest = generator.standard_normal((count, columns - 3))
    return torch.from_numpy(np.concatenate((places, rest), 1))


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    yield Sample("usual", (_points(generator, 200),), _GRID)
    yield Sample("other number", (_points(generator, 61),), _GRID)
    yield Sample("three columns", (_points(generator, 30, 3),), _GRID)
    yield Sample("one point", (torch.tensor([[0.1, 0.1, 0.1, 5.0]], dtype=torch.float64),), _GRID)
    yield Sample("no point", (_points(generator, 0),), _GRID)
    yield Sample("all outside", (_points(generator, 9) + 50,), _GRID)
    lost = _points(generator, 20)
    lost[3, 0], lost[5, 2] = torch.nan, 1e4
    yield Sample("NaN", (lost,), _GRID)


def _hard_samples(generator: np.random.Generator) -> Iterator[Sample]:
    for sample in _samples(generator):
        yield Sample(sample.name, sample.inputs, {**_GRID, "max_points": 3, "max_voxels": 40})
    few = {
        "voxel_size": [0.2, 0.2, 4.0],
        "coors_range": [0.0, 0.0, 0.0, 100.0, 100.0, 4.0],
        "max_points": 2,
        "max_voxels": 5000,
    }
    # So many that cells times points pass 2^31, beyond which OpenVINO cannot count.
    cloud = torch.from_numpy(generator.uniform(0, [100, 100, 4, 1], (20000, 4)))
    yield Sample("more voxels than wanted", (cloud,), few)


def _cells(voxel_size: Sequence[float], coors_range: Sequence[float]) -> list[int]:
    """Return how many cells there are along x, y and z."""
    return [
        round((coors_range[axis + 3] - coors_range[axis]) / voxel_size[axis]) for axis in range(3)
    ]


def _dynamic_shape(
    points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> Tensor:
    del voxel_size, coors_range
    return points.new_empty((points.shape[0], 3), dtype=torch.int32)


@custom_op(
    "shipway::dynamic_voxelize",
    schema="(Tensor points, float[] voxel_size, float[] coors_range) -> Tensor",
    types="T->i",
    shape=_dynamic_shape,
    samples=_samples,
    kernel=BUILT_IN,
    differentiable=False,
    pure=True,
)
def dynamic_voxelize_op(
    points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> Tensor:
    """Find the cell of each point.

    OpenVINO computes the division of the portable body as a product with the reciprocal, so a point
    on the very border of two cells may get the other one there. The kernel divides.

    Args:
        points: (points, 3 or more): x, y, z first.
        voxel_size: Size of a cell along x, y, z.
        coors_range: Least x, y, z and largest x, y, z of the grid.

    Returns:
        (points, 3) int32: z, y, x of the cell; -1 for a point outside or one that is NaN.

    Source: mmcv.ops.voxelization with max_points -1.
    """
    sizes = torch.tensor(list(voxel_size), dtype=points.dtype, device=points.device)
    least = torch.tensor(list(coors_range[:3]), dtype=points.dtype, device=points.device)
    cells = torch.tensor(_cells(voxel_size, coors_range), dtype=points.dtype, device=points.device)
    places = torch.floor((points[:, :3] - least) / sizes)
    inside = (places >= 0) & (places < cells)
    all_inside = (inside[:, 0] & inside[:, 1] & inside[:, 2])[:, None]
    places = torch.where(all_inside, places, torch.full_like(places, -1))
    return torch.flip(places, (1,)).to(torch.int32)


def _hard_shape(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
) -> tuple[Tensor, Tensor, Tensor]:
    del voxel_size, coors_range, max_voxels
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        points.new_empty((count, max_points, points.shape[1])),
        points.new_empty((count, 3), dtype=torch.int32),
        points.new_empty((count,), dtype=torch.int32),
    )


@custom_op(
    "shipway::hard_voxelize",
    schema="(Tensor points, float[] voxel_size, float[] coors_range, int max_points=35, "
    "int max_voxels=20000) -> (Tensor, Tensor, Tensor)",
    types="T->Tii",
    shape=_hard_shape,
    samples=_hard_samples,
    kernel=BUILT_IN,
    differentiable=False,
    pure=True,
)
def hard_voxelize_op(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sort points into voxels, which stand in the order of their first points.

    The points are sorted by their cell and, within it, by their own order; cells and then points
    beyond what is wanted go. Where an engine computes int64 in int32, as OpenVINO does, the portable
    body is exact up to 2^31 cells and 1.4 million points.

    Args:
        points: (points, columns): x, y, z first.
        voxel_size: Size of a cell along x, y, z.
        coors_range: Least x, y, z and largest x, y, z of the grid.
        max_points: Most points of a voxel.
        max_voxels: Most voxels.

    Returns:
        (voxels, max_points, columns) points, 0 where there is none; (voxels, 3) int32 cells as z, y,
        x; (voxels,) int32 numbers of points.

    Source: mmcv.ops.voxelization, deterministic.
    """
    columns = points.shape[1]
    cells = dynamic_voxelize_op.reference(points, voxel_size, coors_range).to(torch.int64)
    wide, deep, _ = _cells(voxel_size, coors_range)
    within = torch.nonzero(cells[:, 0] >= 0)[:, 0]
    points, cells = points[within], cells[within]
    group = dense_ranks((cells[:, 0] * deep + cells[:, 1]) * wide + cells[:, 2])
    order = stable_order(group)
    group = group[order]
    before = torch.cat((group.new_full((1,), -1), group))[:-1]
    starts = torch.nonzero(group != before)[:, 0]
    first = order[starts]
    by_first = torch.sort(first).indices
    turns = torch.arange(first.shape[0], device=points.device)
    rank = torch.zeros_like(by_first).scatter(0, by_first, turns)
    chosen = first[by_first[torch.nonzero(turns < max_voxels)[:, 0]]]
    place = torch.arange(order.shape[0], device=points.device) - starts[group]
    kept = torch.nonzero((rank[group] < max_voxels) & (place < max_points))[:, 0]
    voxel = rank[group][kept]
    slot = voxel * max_points + place[kept]
    voxels = points.new_zeros((chosen.shape[0] * max_points, columns))
    voxels = voxels.scatter(0, slot[:, None].expand(-1, columns), points[order[kept]])
    numbers = torch.zeros_like(chosen).scatter_add(0, voxel, torch.ones_like(voxel))
    return (
        voxels.reshape(chosen.shape[0], max_points, columns),
        cells[chosen].to(torch.int32),
        numbers.to(torch.int32),
    )


def dynamic_voxelize(
    points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> Tensor:
    """Find the cell of each point; see `dynamic_voxelize_op`.

    Args:
        points: (points, 3 or more): x, y, z first.
        voxel_size: Size of a cell along x, y, z.
        coors_range: Least x, y, z and largest x, y, z of the grid.

    Returns:
        (points, 3) int32: z, y, x, or -1.
    """
    found: Tensor = dynamic_voxelize_op(points, list(voxel_size), list(coors_range))
    return found


def hard_voxelize(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sort points into voxels; see `hard_voxelize_op`.

    Args:
        points: (points, columns): x, y, z first.
        voxel_size: Size of a cell along x, y, z.
        coors_range: Least x, y, z and largest x, y, z of the grid.
        max_points: Most points of a voxel.
        max_voxels: Most voxels.

    Returns:
        Voxels, their cells and their numbers of points.
    """
    found: tuple[Tensor, Tensor, Tensor] = hard_voxelize_op(
        points, list(voxel_size), list(coors_range), max_points, max_voxels
    )
    return found


def voxelization(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
    deterministic: bool = True,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Sort points into voxels, or only find their cells where either limit is -1.

    Argument order of mmcv.ops.voxelization.

    Args:
        points: (points, columns): x, y, z first.
        voxel_size: Size of a cell along x, y, z.
        coors_range: Least x, y, z and largest x, y, z of the grid.
        max_points: Most points of a voxel; -1 only finds cells.
        max_voxels: Most voxels; -1 only finds cells.
        deterministic: Without effect: the result is always the same.
    """
    del deterministic
    if -1 in {max_points, max_voxels}:
        return dynamic_voxelize(points, voxel_size, coors_range)
    return hard_voxelize(points, voxel_size, coors_range, max_points, max_voxels)


class Voxelization(nn.Module):
    """`voxelization` with its settings kept, as mmcv.ops.Voxelization."""

    def __init__(
        self,
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        max_num_points: int,
        max_voxels: int | Sequence[int] = 20000,
        deterministic: bool = True,
    ) -> None:
        """Keep the settings.

        Args:
            voxel_size: Size of a cell along x, y, z.
            point_cloud_range: Least x, y, z and largest x, y, z of the grid.
            max_num_points: Most points of a voxel; -1 only finds cells.
            max_voxels: Most voxels, or two numbers: for training and for use.
            deterministic: Without effect: the result is always the same.
        """
        super().__init__()
        self.voxel_size, self.point_cloud_range = list(voxel_size), list(point_cloud_range)
        self.max_num_points, self.deterministic = max_num_points, deterministic
        pair = (max_voxels, max_voxels) if isinstance(max_voxels, int) else tuple(max_voxels)
        self.max_voxels = pair
        # Detectors read the size of the grid here: x, y, z, and 1, y, x without heights.
        self.grid_size = torch.tensor(_cells(self.voxel_size, self.point_cloud_range))
        self.pcd_shape = [1, int(self.grid_size[1]), int(self.grid_size[0])]

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Sort (points, columns) into voxels."""
        most = self.max_voxels[0 if self.training else 1]
        return voxelization(
            input,
            self.voxel_size,
            self.point_cloud_range,
            self.max_num_points,
            most,
            self.deterministic,
        )
