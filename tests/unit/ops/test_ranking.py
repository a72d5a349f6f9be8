"""Ranks and stable orders, against Python's own sort."""

import numpy as np
import pytest
import torch

from shipway.ops.ranking import dense_ranks, stable_order


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("most", [1, 7, 2**40])
def test_ranks(count, most):
    """Equal keys share a rank; none is left out."""
    keys = np.random.default_rng(count).integers(0, most, count)
    golden = np.unique(keys, return_inverse=True)[1]
    assert dense_ranks(torch.from_numpy(keys)).tolist() == golden.tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("share", [1, 3, 900])
def test_order(count, share):
    """Equal ranks stay in their order, within a block of 1,024 and across its border."""
    ranks = np.random.default_rng(count).integers(0, count // share + 1, count)
    ranks = np.minimum(ranks, max(count - 1, 0))
    golden = sorted(range(count), key=ranks.tolist().__getitem__)
    assert stable_order(torch.from_numpy(ranks)).tolist() == golden
