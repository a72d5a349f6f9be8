"""Blocks cover a tensor once, and slice sums are those of the whole tensor."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.compare import blocks
from shipway.compare.blocks import SliceSums, cut

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.integers(1, 50))
def test_blocks_hold_every_element_once_in_order(shape, block_size):
    tensor = np.arange(math.prod(shape)).reshape(shape)
    parts = [block.of(tensor).ravel() for block in cut(shape, block_size)]
    assert all(part.size <= block_size for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), tensor.ravel())


@given(SHAPES, st.integers(1, 50), st.data())
def test_each_element_of_a_block_lies_in_the_slice_it_is_said_to(shape, block_size, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    index_on_axis = np.indices(shape)[axis]
    for block in cut(shape, block_size):
        first, layout = block.along(axis)
        found = block.of(index_on_axis).reshape(layout)
        expected = np.arange(first, first + layout[1]).reshape(1, -1, 1)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, layout))


def test_blocks_are_views():
    tensor = np.zeros((4, 5, 6))
    assert all(np.shares_memory(block.of(tensor), tensor) for block in cut(tensor.shape, 7))


def test_blocks_are_not_needlessly_small():
    sizes = [block.size for block in cut((128, 3, 224, 224), 1 << 15)]
    assert np.mean(sizes) > 1 << 13


def test_worst_slice_is_measured_against_its_own_golden_when_that_is_large():
    sums = SliceSums(2)
    sums.add(0, np.array([1.0, 1.0]), np.array([100.0, 400.0]), 1)
    assert sums.worst(mean_square=0.0) == (0.1, 0)


def test_worst_slice_does_not_explode_where_golden_vanishes():
    sums = SliceSums(2)
    sums.add(0, np.array([1e-8, 1e-8]), np.array([1e-30, 2.0]), 1)
    ratio, _ = sums.worst(mean_square=1.0)
    assert ratio == pytest.approx(1e-4)


@pytest.mark.parametrize(("error", "ratio"), [(0.0, 0.0), (1.0, math.inf)])
def test_all_zero_golden_is_infinitely_wrong_or_right(error, ratio):
    sums = SliceSums(1)
    sums.add(0, np.array([error]), np.array([0.0]), 4)
    assert sums.worst(mean_square=0.0) == (ratio, 0)


@given(
    length=st.integers(1, 40),
    most=st.integers(1, 8),
    runs=st.lists(st.tuples(st.integers(0, 39), st.integers(1, 12)), max_size=6),
)
def test_a_long_axis_is_summed_in_tiles(length, most, runs):
    """However many slices, the sums of 2^k neighbours are exact and nothing is lost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_MOST_SLICES", most)
        sums = SliceSums(length)
        dense = np.zeros(64)
        for first, count in runs:
            values = np.arange(1.0, count + 1)
            sums.add(first, values, values, 1)
            dense[first : first + count] += values
    tiled = dense.reshape(-1, sums.tile).sum(axis=1) if 64 % sums.tile == 0 else None
    held = sums._sums[0]
    assert tiled is not None
    np.testing.assert_array_equal(held, np.pad(tiled, (0, len(held)))[: len(held)])
    assert held.sum() == dense.sum()
    assert length / sums.tile <= most


def test_tiles_of_different_width_merge(monkeypatch):
    monkeypatch.setattr(blocks, "_MOST_SLICES", 4)
    fine, coarse = SliceSums(3), SliceSums(13)
    fine.add(0, np.ones(3), np.ones(3), 1)
    coarse.add(0, np.ones(13), np.ones(13), 1)
    assert (fine.tile, coarse.tile) == (1, 4)
    for first, second in ((fine, coarse), (coarse, fine)):
        total = SliceSums(0)
        total.merge(first)
        total.merge(second)
        assert total.tile == 4
        np.testing.assert_array_equal(total._sums[0], [7, 4, 4, 1])
