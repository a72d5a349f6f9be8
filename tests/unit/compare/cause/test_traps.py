"""Faults that look like another one at first sight, and numbers that look like a fault."""

import ml_dtypes
import numpy as np
import pytest

from shipway.compare.cause import evidence
from shipway.compare.cause.finding import find_cause
from shipway.compare.causes import CAUSES

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
EVERY_PRECISION = pytest.mark.parametrize("precision", DTYPES)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def found(golden, actual, precision="f32"):
    actual = (np.asarray(actual) * (1 + 1e-7 * noise(*actual.shape, seed=9))).astype(
        DTYPES[precision]
    )
    return find_cause(golden.astype(np.float32), actual, precision=precision)


@EVERY_PRECISION
def test_a_gain_on_a_tensor_that_one_channel_dominates_is_no_channel(precision):
    """All of the error lies in that channel, and the others are wrong by as much of their own."""
    golden = noise(4, 16, 40)
    golden[:, 5] *= 100
    assert found(golden, 1.05 * golden, precision).kind == "gain"


@EVERY_PRECISION
def test_one_channel_scaled_is_a_channel_even_where_it_dominates(precision):
    golden = noise(4, 16, 40)
    golden[:, 5] *= 100
    actual = golden.copy()
    actual[:, 5] *= 1.05
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert "slice 5 on axis 1" in cause.explanation


@EVERY_PRECISION
def test_a_zeroed_channel_behind_a_relu_is_no_saturation(precision):
    golden = np.maximum(noise(4, 16, 40), 0)
    actual = golden.copy()
    actual[:, 5] = 0
    assert found(golden, actual, precision).kind == "channel"


@EVERY_PRECISION
def test_one_sample_of_a_batch_is_a_slice_on_axis_0(precision):
    golden = noise(16, 100)
    actual = golden.copy()
    actual[11] = noise(100, seed=3)
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert "slice 11 on axis 0 of 16" in cause.explanation


@EVERY_PRECISION
def test_a_batch_of_one_is_no_slice(precision):
    golden = noise(1, 400)
    assert found(golden, golden + 0.3 * noise(1, 400, seed=2), precision).kind != "channel"


@EVERY_PRECISION
def test_a_shrunken_tensor_is_no_saturation(precision):
    """Its largest value lies below golden's, as that of a tensor that was cut off."""
    golden = noise(20, 50)
    assert found(golden, 0.9 * golden, precision).kind == "gain"


@EVERY_PRECISION
def test_a_single_wrong_element_is_no_saturation(precision):
    """The engine's largest value is where golden has a larger one: it always is, somewhere."""
    golden = noise(20, 50)
    actual = golden.copy()
    at = np.unravel_index(golden.argmax(), golden.shape)
    actual[at] = np.sort(golden.ravel())[-3]
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert f"one element alone, [{at[0]}, {at[1]}], is wrong" in cause.explanation


@EVERY_PRECISION
def test_a_nan_that_a_relu_made_0_of_is_thought_of(precision):
    golden = np.maximum(noise(20, 50), 0)
    actual = golden.copy()
    at = np.unravel_index(golden.argmax(), golden.shape)
    actual[at] = 0
    cause = found(golden, actual, precision)
    assert cause.kind == "channel"
    assert "0 instead of" in cause.explanation
    assert "make 0 of a NaN" in cause.explanation


@EVERY_PRECISION
def test_small_noise_leaves_sorted_values_alike_and_is_no_layout(precision):
    golden = noise(100, 300)
    assert found(golden, golden + 0.02 * noise(100, 300, seed=2), precision).kind == "unknown"


@EVERY_PRECISION
def test_two_draws_of_one_distribution_are_no_layout(precision):
    golden, actual = noise(200, 300, seed=1), noise(200, 300, seed=2)
    assert found(golden, actual, precision).kind == "input"


@EVERY_PRECISION
def test_rows_that_happen_to_scale_alike_are_a_gain(precision):
    """A factor a row explains a common factor as well, with more to choose."""
    golden = noise(1, 50, 64)
    assert found(golden, 1.1 * golden, precision).kind == "gain"


@EVERY_PRECISION
def test_a_bias_that_is_missing_on_one_channel_alone_is_a_channel(precision):
    golden = noise(1, 16, 12, 12)
    actual = golden.copy()
    actual[:, 3] -= 2
    assert found(golden, actual, precision).kind == "channel"


@EVERY_PRECISION
def test_a_factor_of_minus_one_flips_every_sign_and_is_a_gain(precision):
    golden = noise(30, 40)
    assert found(golden, -golden, precision).kind == "gain"


@EVERY_PRECISION
def test_a_negative_channel_that_is_wrong_is_no_activation(precision):
    """Positive elements are all right, for the wrong ones are negative."""
    golden = np.abs(noise(1, 16, 12, 12))
    golden[:, 3] *= -1
    actual = golden.copy()
    actual[:, 3] *= 1.5
    assert found(golden, actual, precision).kind == "channel"


@EVERY_PRECISION
def test_every_output_shifted_by_its_own_is_not_said_to_be_a_bias(precision):
    """One sample: each element has a constant of its own, so that anything at all would fit."""
    golden = noise(1, 1000)
    cause = found(golden, golden + 0.1 * noise(1, 1000, seed=2), precision)
    assert cause.kind == "unknown"


@EVERY_PRECISION
def test_golden_zeros_and_noise_are_unknown_rather_than_wrong(precision):
    cause = found(np.zeros((20, 30)), noise(20, 30), precision)
    assert cause.kind in {"unknown", "input"}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_in_an_explanation_comes_out(seed):
    """Random shapes, values, ties, infinities: one of the kinds, and no exception."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 7, rng.integers(0, 5)))
    values = [0.0, 1.0, -1.0, 1e-45, 3e38, np.nan, np.inf, -np.inf, *rng.standard_normal(8)]
    golden, actual = (rng.choice(values, shape).astype(np.float32) for _ in range(2))
    for precision in DTYPES:
        cause = find_cause(golden, actual, precision=precision)
        assert cause.kind in CAUSES
        assert cause.explanation


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda x, c: 1.02 * x - 0.02 * c, "gain"),
        (lambda x, c: x - c, "offset"),
        (lambda x, _: np.tanh(x), "activation"),
        (lambda x, _: x.transpose(0, 1, 3, 2), "layout"),
    ],
    ids=["gain", "offset", "curve", "layout"],
)
def test_large_tensors_are_thinned_for_fits_only(spoil, kind, monkeypatch):
    monkeypatch.setattr(evidence, "_MOST_ELEMENTS", 4000)
    constants = noise(30, seed=2)[:, None, None]
    golden = noise(1, 30, 40, 40) + constants
    cause = found(golden, spoil(golden, constants))
    assert cause.kind == kind
