"""Features reduced to one row a voxel, against a dictionary of voxels."""

import numpy as np
import pytest
import torch

from shipway.native import load_native
from shipway.ops import DynamicScatter, dynamic_scatter
from shipway.ops.operators.dynamic_scatter import dynamic_scatter_op

BUILT = load_native() is not None
REDUCTIONS = {"max": np.max, "mean": np.mean, "sum": np.sum}


@pytest.fixture
def generator():
    return np.random.default_rng(3)


def _voxels(feats, coors):
    """Return the rows of each voxel, in ascending order of its coordinates."""
    voxels = {}
    for row, cell in zip(feats, coors.tolist(), strict=True):
        if min(cell) >= 0:
            voxels.setdefault(tuple(cell), []).append(row)
    return dict(sorted(voxels.items()))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("axes", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_reductions(generator, reduction, axes, dtype):
    """Points with a negative coordinate are left out; coordinates keep their dtype."""
    feats = generator.standard_normal((200, 5))
    coors = torch.from_numpy(generator.integers(-1, 4, (200, axes))).to(dtype)
    golden = _voxels(feats, coors)
    values, cells = dynamic_scatter(torch.from_numpy(feats), coors, reduction)
    assert cells.dtype == dtype
    assert [tuple(cell) for cell in cells.tolist()] == list(golden)
    wanted = [REDUCTIONS[reduction](rows, axis=0) for rows in golden.values()]
    np.testing.assert_allclose(values.numpy(), wanted, atol=1e-12)


def test_the_layer_takes_the_mean_or_the_largest(generator):
    """With a batch as the first coordinate, voxels of different batches stay apart."""
    feats = torch.from_numpy(generator.standard_normal((60, 2)))
    coors = torch.from_numpy(np.sort(generator.integers(0, 3, (60, 4)), axis=0))
    for average, reduction in ((True, "mean"), (False, "max")):
        layer = DynamicScatter([1, 1, 1], [0, 0, 0, 3, 3, 3], average_points=average)
        values, cells = layer(feats, coors)
        golden = [
            dynamic_scatter(feats[coors[:, 0] == at], coors[coors[:, 0] == at, 1:], reduction)
            for at in range(3)
        ]
        torch.testing.assert_close(values, torch.cat([one[0] for one in golden]))
        torch.testing.assert_close(cells[:, 1:], torch.cat([one[1] for one in golden]))


def test_the_gradient_goes_to_the_first_of_the_largest():
    """As in mmcv; a point that is left out has none."""
    feats = torch.tensor([[1.0], [3.0], [3.0], [9.0]], requires_grad=True)
    coors = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, -1, 1]])
    dynamic_scatter(feats, coors)[0].sum().backward()
    assert feats.grad.tolist() == [[0], [1], [0], [0]]


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
def test_coordinates_of_any_size():
    """The kernel multiplies no coordinates, so none is too large."""
    coors = torch.tensor([[2**62, 0, 2**62], [0, 2**62, 5], [2**62, 0, 2**62]])
    values, cells = dynamic_scatter(torch.tensor([[1.0], [2.0], [4.0]]), coors, "sum")
    assert (values.tolist(), cells.tolist()) == ([[2], [5]], [[0, 2**62, 5], [2**62, 0, 2**62]])


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
def test_any_number_of_threads_gives_the_same(generator):
    """Each voxel adds its points in their own order."""
    feats = torch.from_numpy(generator.standard_normal((5000, 8))).float()
    coors = torch.from_numpy(generator.integers(0, 9, (5000, 3)))
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(dynamic_scatter(feats, coors, "mean")[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.skipif(not BUILT, reason="Shipway was installed without a C++ compiler")
@pytest.mark.parametrize(
    ("coors", "reduce", "words"),
    [
        (torch.zeros(2, 3), 0, "coors has 2 rows, feats has 3"),
        (torch.zeros(3, 0), 0, "coors must have at least one axis"),
        (torch.zeros(3), 0, "feats and coors must have rank 2"),
        (torch.zeros(3, 3), 3, "reduce must be 0, 1 or 2, not 3"),
    ],
)
def test_what_does_not_fit_is_refused(coors, reduce, words):
    """With sizes."""
    with pytest.raises(RuntimeError, match=words):
        dynamic_scatter_op(torch.ones(3, 2), coors.long(), reduce)


def test_an_unknown_reduction_is_refused():
    """The message lists those that there are."""
    with pytest.raises(ValueError, match="'min', but must be one of max, mean, sum"):
        dynamic_scatter(torch.ones(1, 1), torch.zeros(1, 3, dtype=torch.int64), "min")
