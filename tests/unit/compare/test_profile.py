"""Errors slice by slice and by size, against whole-array formulas."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.compare.metrics import measure
from shipway.compare.profile import channel_errors, error_histogram
from shipway.errors import TensorError

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)
VALUES = st.floats(-1e3, 1e3, width=32) | st.just(0.0)


def pairs(shapes=SHAPES, values=VALUES):
    return shapes.flatmap(
        lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=values)] * 2)
    )


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(pairs(), st.data())
def test_each_slice_follows_its_formula(pair, data):
    axis = data.draw(st.integers(-pair[0].ndim, pair[0].ndim - 1))
    golden, actual = (np.moveaxis(side.astype(np.float64), axis, 0) for side in pair)
    found = channel_errors(*pair, axis)
    assert found.shape == (pair[0].shape[axis],)
    for index, value in enumerate(found):
        own = max((golden[index] ** 2).mean(), (golden**2).mean())
        lost = ((actual[index] - golden[index]) ** 2).mean()
        expected = math.sqrt(lost / own) if own else math.inf if lost else 0
        assert value == pytest.approx(expected, rel=1e-9)


@given(pairs())
def test_the_largest_is_the_worst_channel_of_the_metrics(pair):
    axes = {0, min(1, pair[0].ndim - 1), pair[0].ndim - 1}
    largest = max(channel_errors(*pair, axis).max() for axis in axes)
    assert measure(*pair).worst_channel == pytest.approx(largest, rel=1e-9)


def test_every_axis_can_be_asked_for():
    golden = noise(2, 3, 40, 50)
    actual = golden.copy()
    actual[:, :, 7] += 1
    errors = channel_errors(golden, actual, 2)
    assert errors.argmax() == 7
    assert np.count_nonzero(errors) == 1


def test_nan_on_one_side_makes_a_slice_infinitely_wrong():
    golden, actual = noise(3, 4), noise(3, 4)
    golden[0, 0] = actual[0, 0] = np.nan
    actual[1, 0] = np.inf
    assert channel_errors(golden, actual, 0).tolist() == [0, math.inf, 0]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_element_has_no_error(shape):
    assert channel_errors(np.zeros(shape), np.zeros(shape), 0).tolist() == [0] * shape[0]


@pytest.mark.parametrize(("shape", "axis"), [((), 0), ((2, 3), 2), ((2, 3), -3)])
def test_an_axis_that_is_not_there_is_refused(shape, axis):
    with pytest.raises(TensorError, match=f"has no axis {axis}"):
        channel_errors(np.zeros(shape), np.zeros(shape), axis)


@given(pairs(hnp.array_shapes(min_dims=0, max_dims=4, max_side=6)))
def test_every_element_is_counted_once_and_in_its_place(pair):
    golden, actual = (side.astype(np.float64) for side in pair)
    found = error_histogram(*pair)
    errors = np.abs(actual - golden).ravel()
    assert found.equal == (errors == 0).sum()
    assert sum(found.counts) + found.equal == golden.size
    relative = np.clip(errors[errors > 0] / found.scale, found.edges[0], found.edges[-1])
    counts, _ = np.histogram(relative, found.edges)
    assert (
        np.abs(np.cumsum(found.counts) - np.cumsum(counts)).max()
        <= np.isclose(relative[:, None], found.edges, rtol=1e-12).sum()
    )


def test_sizes_are_relative_to_golden():
    golden = 1000 * noise(100, 100)
    small, large = (error_histogram(golden * k, golden * k * 1.02) for k in (1, 1e-6))
    assert small.scale == pytest.approx(1e6 * large.scale)
    assert np.abs(np.subtract(small.counts, large.counts)).sum() <= 10


def test_nan_and_inf_are_counted_apart():
    golden = np.array([math.nan, math.inf, 1, 1], np.float32)
    found = error_histogram(golden, np.array([math.nan, 1, 1, math.nan], np.float32))
    assert (found.nonfinite, found.equal, sum(found.counts)) == (3, 1, 0)


def test_a_histogram_of_nothing_and_of_an_all_zero_golden():
    assert sum(error_histogram(np.zeros((0, 2)), np.zeros((0, 2))).counts) == 0
    found = error_histogram(np.zeros(3), np.array([0.0, 1.0, 1e9]))
    assert (found.scale, found.equal, found.counts[-1]) == (1, 1, 1)
    json.dumps(found.to_json(), allow_nan=False)
