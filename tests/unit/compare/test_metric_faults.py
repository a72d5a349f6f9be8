"""What the measures of other tools let pass: each fault fails here, whatever the precision.

Each is judged as one operator's output is, by `limits_for(..., local=True)`, on tensors of the
precision's own dtype.
"""

import math

import ml_dtypes
import numpy as np
import pytest

from shipway.compare.metrics import measure
from shipway.compare.verdict import judge, limits_for

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
EVERY_PRECISION = pytest.mark.parametrize("precision", DTYPES)


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def verdict(golden, actual, precision):
    dtype = np.dtype(DTYPES[precision])
    golden, actual = np.asarray(golden).astype(dtype), np.asarray(actual).astype(dtype)
    return judge(measure(golden, actual), dtype.name, limits_for(precision, local=True))


@EVERY_PRECISION
def test_rounding_alone_passes(precision):
    """Or the tests below would show nothing."""
    golden = noise(8, 64, 10)
    assert verdict(golden, golden * (1 + 2**-25), precision).passed


@EVERY_PRECISION
@pytest.mark.parametrize("wrong", [1000, 1, 0.5])
def test_a_zero_in_the_golden_hides_nothing(precision, wrong):
    """Where golden is 0, tools that mask it out report max abs 0 and max rel 0."""
    golden = noise(8, 64)
    golden[:, 5] = 0
    actual = golden.copy()
    actual[:, 5] = wrong
    found = verdict(golden, actual, precision)
    assert not found.passed
    assert any("zero on one side only" in reason for reason in found.reasons)
    assert measure(golden, actual).max_abs == wrong


@EVERY_PRECISION
def test_one_zero_in_the_golden_hides_nothing(precision):
    golden = noise(100)
    golden[7] = 0
    actual = golden.copy()
    actual[7] = 1000
    assert not verdict(golden, actual, precision).passed


@EVERY_PRECISION
def test_an_all_zero_golden_hides_nothing(precision):
    assert not verdict(np.zeros(100), np.full(100, 1e-4), precision).passed


@EVERY_PRECISION
def test_three_x_plus_five_is_caught(precision):
    """A KL divergence of sides normalised one by one is 6e-17."""
    golden = noise(8, 64)
    assert not verdict(golden, 3 * golden + 5, precision).passed


@EVERY_PRECISION
def test_three_x_plus_five_is_caught_on_a_softmax(precision):
    golden = np.exp(noise(8, 64))
    golden /= golden.sum(axis=1, keepdims=True)
    actual = 3 * golden + 5
    assert not verdict(golden, actual, precision).passed
    assert abs(measure(golden, actual).kl_divergence) > 1


@EVERY_PRECISION
@pytest.mark.parametrize("shape", [(8, 64), (7,), (1, 3, 32, 32)])
def test_x_times_1_04_is_caught(precision, shape):
    """Cosine 1.0, relative distance 0.04, KL 0, RMSE 0.039, mean relative 0.04 pass elsewhere."""
    golden = noise(*shape)
    found = verdict(golden, golden * 1.04, precision)
    assert not found.passed
    if golden.size > 100:  # a gain of a handful of numbers says little; their distance is enough
        assert any(reason.startswith("gain is 1.0") for reason in found.reasons)


@EVERY_PRECISION
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [1, 100_000])
def test_nan_never_passes(precision, value, size):
    """A metric that is NaN is skipped elsewhere, and the row called right."""
    golden = noise(size)
    actual = golden.copy()
    actual[size // 2] = value
    assert not verdict(golden, actual, precision).passed
    assert not verdict(actual, golden, precision).passed


@EVERY_PRECISION
def test_all_nan_never_passes(precision):
    nothing = np.full(10, np.nan)
    assert not verdict(nothing, nothing, precision).passed
    assert not verdict(noise(10), nothing, precision).passed


def test_psnr_does_not_depend_on_the_sign_of_golden():
    """With the largest value, or 1, as its peak, half a percent on negative numbers is 6 dB."""
    golden = -100 - 100 * np.abs(noise(1000))
    found = measure(golden, golden * 1.005)
    assert found.psnr_db > 46
    assert found.psnr_db == measure(-golden, -golden * 1.005).psnr_db
