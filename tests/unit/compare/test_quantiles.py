"""Quantiles of the error against numpy's, whatever the blocks, the ties and the dtypes."""

import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.compare import quantiles
from shipway.compare.quantiles import error_quantiles
from shipway.errors import TensorError, UsageError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=6)
VALUES = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, 1.0, 1e-45, 3e38])
ODD_VALUES = VALUES | st.sampled_from([math.nan, math.inf, -math.inf])
LEVELS = st.lists(st.floats(0, 1), min_size=1, max_size=4)


def pairs(values):
    return SHAPES.flatmap(
        lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=values)] * 2)
    )


@given(pairs(ODD_VALUES), LEVELS, st.integers(1, 40), st.integers(1, 20))
def test_quantiles_are_those_of_numpy(pair, levels, block_size, enough):
    """A small `enough` takes the road of many passes, down to single bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "_BLOCK_SIZE", block_size)
        patch.setattr(quantiles, "_ENOUGH", enough)
        found = error_quantiles(*pair, levels)
    with np.errstate(all="ignore"):
        errors = np.abs(pair[1].astype(np.float64) - pair[0].astype(np.float64))
    errors = errors[np.isfinite(errors)]
    if errors.size:
        expected = np.quantile(errors, levels)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    else:
        assert found is None


def test_the_usual_three():
    golden = np.zeros(101)
    actual = np.random.default_rng(0).permutation(101).astype(np.float64)
    assert error_quantiles(golden, actual) == (50, 90, 99)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8, np.bool_])
def test_every_dtype(dtype):
    golden, actual = (np.arange(k, k + 50).reshape(5, 10).astype(dtype) for k in (0, 3))
    errors = np.abs(actual.astype(np.float64) - golden.astype(np.float64))
    assert error_quantiles(golden, actual, (0, 0.3, 1)) == pytest.approx(
        tuple(np.quantile(errors, (0, 0.3, 1)))
    )


def test_integers_too_large_for_a_float():
    golden = np.array([2**62, 2**62], np.int64)
    assert error_quantiles(golden, golden + 1, (0.5,)) == (1,)


def test_no_element_has_no_quantile():
    assert error_quantiles(np.zeros((3, 0)), np.zeros((3, 0))) is None
    assert error_quantiles(np.full(3, np.nan), np.zeros(3)) is None


def test_a_scalar():
    assert error_quantiles(np.array(2.0), np.array(3.5)) == (1.5, 1.5, 1.5)


def test_a_large_pair_takes_little_memory():
    golden = np.random.default_rng(0).standard_normal(5_000_000, np.float32)
    actual = golden * np.float32(1.001)
    tracemalloc.start()
    try:
        found = error_quantiles(golden, actual)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12e6
    errors = np.abs(actual.astype(np.float64) - golden)
    np.testing.assert_allclose(found, np.quantile(errors, (0.5, 0.9, 0.99)), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TensorError, match=r"\[2\] with shape \[3\]"):
        error_quantiles(np.zeros(2), np.zeros(3))
    with pytest.raises(TensorError, match="not supported"):
        error_quantiles(np.zeros(2, "complex64"), np.zeros(2, "complex64"))
    with pytest.raises(UsageError, match=r"no quantile 1\.5") as caught:
        error_quantiles(np.zeros(2), np.zeros(2), (0.5, 1.5))
    assert "0 to 1" in caught.value.hint
