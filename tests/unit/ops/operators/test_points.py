"""Point clouds and bird's-eye views, against loops written without them."""

import numpy as np
import pytest
import torch

from shipway.native import load_native
from shipway.ops import (
    Voxelization,
    bev_pool_v2,
    furthest_point_sample,
    scatter_add,
    scatter_max,
    scatter_mean,
    voxelization,
)

BUILT = load_native() is not None
SIZE, RANGE = [0.5, 0.25, 1.0], [0.0, -1.0, -2.0, 4.0, 1.0, 2.0]


@pytest.fixture
def generator():
    return np.random.default_rng(6)


@pytest.mark.parametrize("shared", [True, False])
def test_scatter(generator, shared):
    """Sum, mean and largest of the values of each row; untouched rows are 0."""
    src = generator.standard_normal((3, 12, 2))
    index = generator.integers(0, 4, 12 if shared else src.shape)
    each = np.broadcast_to(index[None, :, None], src.shape) if shared else index
    sums, best = np.zeros((3, 6, 2)), np.zeros((3, 6, 2))
    counts, places = np.zeros((3, 6, 2)), np.full((3, 6, 2), 12)
    for at in np.ndindex(*src.shape):
        to = (at[0], each[at], at[2])
        if counts[to] == 0 or src[at] > best[to]:
            best[to], places[to] = src[at], at[1]
        sums[to] += src[at]
        counts[to] += 1
    given = torch.from_numpy(src), torch.from_numpy(index)
    np.testing.assert_allclose(scatter_add(*given, 1, dim_size=6).numpy(), sums, atol=1e-12)
    mean = scatter_mean(*given, 1, dim_size=6).numpy()
    np.testing.assert_allclose(mean, sums / np.maximum(counts, 1), atol=1e-12)
    values, found = scatter_max(*given, 1, dim_size=6)
    np.testing.assert_array_equal(values.numpy(), best)
    np.testing.assert_array_equal(found.numpy(), places)
    assert scatter_add(*given, 1).shape == (3, int(index.max()) + 1, 2)


def test_scatter_into_something():
    """`out` is added to, divided with, or larger; it is not changed."""
    src, index = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 0, 1])
    out = torch.tensor([10.0, 1.0, 7.0])
    assert scatter_add(src, index, out=out).tolist() == [13, 6, 7]
    assert scatter_mean(src, index, out=out).tolist() == [6.5, 6, 7]
    values, places = scatter_max(src, index, out=out)
    assert (values.tolist(), places.tolist()) == ([10, 5, 7], [3, 2, 3])
    assert out.tolist() == [10, 1, 7]


def test_an_index_outside_is_refused():
    """The kernel writes nothing outside its output."""
    src = torch.ones(2)
    for index in ([0, 3], [0, -1]):
        with pytest.raises(RuntimeError, match=rf"index {index[1]} is outside the 3 rows"):
            scatter_add(src, torch.tensor(index), dim_size=3)
    with pytest.raises(RuntimeError, match="index has 1 entries on axis 0, src has 2"):
        scatter_add(src, torch.tensor([0]), dim_size=3)


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize("scatter", [scatter_add, scatter_mean, scatter_max])
@pytest.mark.parametrize("index", [2**58, 2**62, 2**63 - 1])
def test_an_index_that_no_memory_can_hold_is_refused(scatter, index):
    """The number of rows is taken from the index, which may be anything."""
    with pytest.raises(RuntimeError, match=f"index {index} needs more rows than memory can hold"):
        scatter(torch.ones(2, 64), torch.tensor([0, index]), 0)


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
def test_rows_for_which_there_is_no_memory_are_refused():
    """A size that could be, but is not there: refused by the runtime."""
    with pytest.raises(RuntimeError, match="shipway::scatter_max"):
        scatter_max(torch.ones(2, 1), torch.tensor([0, 2**47]), 0)


def test_the_gradient_of_scatter_max_goes_to_the_largest():
    """And to no other: of equal ones to the first, whose place is the second output."""
    src = torch.tensor([1.0, 3.0, 3.0, 2.0], requires_grad=True)
    values, places = scatter_max(src, torch.tensor([0, 0, 0, 2]))
    values.sum().backward()
    assert places.tolist() == [1, 4, 3]
    assert src.grad.tolist() == [0, 1, 0, 1]


def test_furthest_point_sample(generator):
    """Each next point is the furthest from those taken."""
    points = generator.uniform(-1, 1, (2, 30, 3))
    found = furthest_point_sample(torch.from_numpy(points), 7)
    assert found.dtype == torch.int32
    for cloud, picks in zip(points, found.tolist(), strict=True):
        taken = [0]
        while len(taken) < 7:
            far = [min(((point - cloud[k]) ** 2).sum() for k in taken) for point in cloud]
            taken.append(int(np.argmax(far)))
        assert picks == taken


def test_bev_pool(generator):
    """Every point adds its feature times its depth to its cell."""
    depth = generator.uniform(0, 1, (2, 2, 3, 4, 5))
    feat = generator.standard_normal((2, 2, 4, 5, 6))
    cells = np.sort(generator.integers(0, 2 * 2 * 3 * 4, 70))
    from_depth = generator.integers(0, depth.size, 70)
    from_feat = generator.integers(0, feat.size // 6, 70)
    golden = np.zeros((2 * 2 * 3 * 4, 6))
    for k in range(70):
        golden[cells[k]] += depth.reshape(-1)[from_depth[k]] * feat.reshape(-1, 6)[from_feat[k]]
    golden = golden.reshape(2, 2, 3, 4, 6).transpose(0, 4, 1, 2, 3)
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    ranks = [torch.from_numpy(one) for one in (from_depth, from_feat, cells)]
    runs = [torch.from_numpy(one) for one in (starts, np.diff(starts, append=70))]
    given = torch.from_numpy(depth), torch.from_numpy(feat)
    actual = bev_pool_v2(*given, *ranks, (2, 2, 3, 4, 6), *runs)
    np.testing.assert_allclose(actual.numpy(), golden, atol=1e-12)
    with pytest.raises(RuntimeError, match="sort the points by ranks_bev before"):
        bev_pool_v2(*given, *ranks[:2], ranks[2].flip(0), (2, 2, 3, 4, 6), *runs)


def _cell(point):
    place = np.floor((point[:3] - RANGE[:3]) / SIZE).astype(int)
    inside = (place >= 0).all() and (place < [8, 8, 4]).all()
    return tuple(int(one) for one in place[::-1]) if inside else (-1, -1, -1)


def _points(generator, count):
    places = generator.uniform([-0.5, -1.2, -2.4], [4.5, 1.2, 2.4], (count, 3))
    return np.concatenate((places, generator.standard_normal((count, 1))), 1)


def test_cells_of_points(generator):
    """z, y, x; -1 outside."""
    points = _points(generator, 60)
    found = voxelization(torch.from_numpy(points), SIZE, RANGE, -1)
    assert [tuple(row) for row in found.tolist()] == [_cell(point) for point in points]


@pytest.mark.parametrize("most", [500, 7])
def test_voxels(generator, most):
    """In the order of their first points, at most two points in each."""
    points = _points(generator, 150)
    voxels = {}
    for point in points:
        cell = _cell(point)
        if cell[0] >= 0 and (cell in voxels or len(voxels) < most):
            voxels.setdefault(cell, []).append(point)
    layer = Voxelization(SIZE, RANGE, 2, (1, most)).eval()
    values, cells, numbers = layer(torch.from_numpy(points))
    assert [tuple(row) for row in cells.tolist()] == list(voxels)
    assert numbers.tolist() == [min(len(inside), 2) for inside in voxels.values()]
    for value, inside in zip(values.numpy(), voxels.values(), strict=True):
        golden = np.zeros((2, 4))
        golden[: len(inside[:2])] = inside[:2]
        np.testing.assert_array_equal(value, golden)
    assert len(layer.train()(torch.from_numpy(points))[1]) == 1


def test_a_grid_without_a_cell_is_refused():
    """It says what is wrong with it."""
    with pytest.raises(RuntimeError, match="more voxels than can be counted"):
        voxelization(torch.zeros(1, 3), [1e-6] * 3, [0, 0, 0, 2e3, 2e3, 2e3], 5)
    with pytest.raises(RuntimeError, match="at least one voxel on each axis"):
        voxelization(torch.zeros(1, 3), [1, 1, 1], [0, 0, 0, 0.2, 4, 4], -1)


def test_settings_of_the_voxelization_layer():
    """Configurations write pairs as lists; detectors read the size of the grid."""
    layer = Voxelization(SIZE, RANGE, 2, [3, 5])
    assert len(layer(torch.tensor(_points(np.random.default_rng(1), 150)))[1]) == 3
    assert len(layer.eval()(torch.tensor(_points(np.random.default_rng(1), 150)))[1]) == 5
    assert layer.grid_size.tolist() == [8, 8, 4]
    assert layer.pcd_shape == [1, 8, 8]
