"""Metrics against plain formulas on whole float64 arrays, and on the cases that break others."""

import math
import tracemalloc
from dataclasses import asdict, fields

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import distance

from shipway.compare.accumulator import Accumulator
from shipway.compare.metrics import measure
from shipway.compare.results import Metrics
from shipway.errors import TensorError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=5)
VALUES = st.floats(-1e3, 1e3, width=32) | st.just(0.0)
NAMES = {entry.name for entry in fields(Metrics)}
ODD_VALUES = VALUES | st.sampled_from([math.nan, math.inf, -math.inf, 1e-45, 3e38])


def same(found, expected, *, scale=1.0):
    """Equal but for the order of summation; a sum that cancels is only as exact as its terms."""
    if found is None or expected is None:
        return found is expected
    return found == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


def scale_of(found):
    """Bound the terms that gain, cosine and SNR add up, relative to what they are divided by."""
    relative = found.relative_l2 or 0.0
    return 10 + (relative if math.isfinite(relative) else 0.0)


def pairs(values):
    return SHAPES.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float32, shape, elements=values),
            hnp.arrays(np.float32, shape, elements=values),
        )
    )


def worst_slice(golden, error):
    """The definition in `Metrics.worst_channel`, written with whole arrays."""
    golden, error = np.atleast_1d(golden, error)
    worst = 0.0
    for axis in {0, min(1, golden.ndim - 1), golden.ndim - 1}:
        others = tuple(k for k in range(golden.ndim) if k != axis)
        own = np.maximum((golden**2).mean(others), (golden**2).mean())
        lost = (error**2).mean(others)
        ratio = np.divide(lost, own, out=np.where(lost > 0, np.inf, 0.0), where=own > 0)
        worst = max(worst, math.sqrt(ratio.max()))
    return worst


@given(pairs(VALUES))
def test_numbers_follow_their_formulas(pair):
    found = measure(*pair)
    golden, actual = (side.astype(np.float64) for side in pair)
    error, nonzero = actual - golden, golden != 0
    energy, lost = float((golden**2).sum()), float((error**2).sum())
    relative = np.abs(error[nonzero]) / np.abs(golden[nonzero])
    assert found.count == golden.size
    assert found.mismatches == int((golden != actual).sum())
    assert found.nonfinite_mismatches == 0
    assert same(found.relative_l2, math.sqrt(lost / energy) if energy else math.inf if lost else 0)
    assert same(found.worst_channel, worst_slice(golden, error))
    scale = math.sqrt((actual**2).sum() / energy) if energy else 0
    assert same(found.gain, (golden * actual).sum() / energy if energy else None, scale=scale)
    assert same(found.max_abs, float(np.abs(error).max()))
    assert same(found.rmse, math.sqrt(lost / golden.size))
    assert same(found.max_rel, float(relative.max()) if nonzero.any() else None)
    assert same(found.mean_rel, float(relative.mean()) if nonzero.any() else None)
    snr_db = 10 * math.log10(energy / lost) if energy and lost else None
    assert same(found.snr_db, snr_db, scale=10)
    assert same(found.effective_count, energy**2 / (golden**4).sum() if energy else None)


@given(pairs(VALUES))
def test_cosine_is_that_of_scipy(pair):
    golden, actual = (side.astype(np.float64).ravel() for side in pair)
    found = measure(*pair).cosine
    if golden.any() and actual.any():
        scale = np.abs(golden).max(), np.abs(actual).max()
        cosine = 1 - distance.cosine(golden / scale[0], actual / scale[1])
        assert found == pytest.approx(cosine, abs=1e-12)
    else:
        assert found == float(golden.any() == actual.any())


@given(pairs(ODD_VALUES), st.integers(1, 40))
def test_results_do_not_depend_on_the_block_size(pair, block_size):
    small = Accumulator(block_size=block_size)
    small.add(*pair)
    found, expected = small.metrics(), measure(*pair)
    for name in NAMES - {"worst_channel_axis", "worst_channel_index"}:  # a tie may fall either way
        assert same(getattr(found, name), getattr(expected, name), scale=scale_of(expected)), name


@given(pairs(ODD_VALUES))
def test_nonfinite_elements_are_counted_and_then_left_out(pair):
    golden, actual = pair
    finite = np.isfinite(golden) & np.isfinite(actual)
    found = measure(golden, actual)
    unequal = ~finite & ~np.equal(golden, actual) & ~(np.isnan(golden) & np.isnan(actual))
    assert found.nonfinite_mismatches == unequal.sum()
    assert found.mismatches == unequal.sum() + (golden[finite] != actual[finite]).sum()
    if finite.any():
        kept = measure(golden[finite], actual[finite])
        for name in ("relative_l2", "gain", "cosine", "max_abs", "mean_rel", "rmse", "max_ulp"):
            assert same(getattr(found, name), getattr(kept, name)), name
    else:
        assert found.relative_l2 is None


@given(pairs(VALUES), st.data())
def test_several_sets_together_are_one_long_tensor(pair, data):
    golden, actual = (np.atleast_1d(side) for side in pair)
    at = data.draw(st.integers(0, len(golden)))
    parts = [Accumulator(block_size=3), Accumulator()]
    parts[0].add(golden[:at], actual[:at])
    parts[1].add(golden[at:], actual[at:])
    parts[0].merge(parts[1])
    whole, found = measure(golden, actual), parts[0].metrics()
    # Axis 0 of the parts is not that of the whole; nor is a row, where it is the only axis.
    for name in NAMES - {
        "worst_channel",
        "worst_channel_axis",
        "worst_channel_index",
        "kl_divergence",
    }:
        assert same(getattr(found, name), getattr(whole, name), scale=scale_of(whole)), name


def noise(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_a_common_scale_error_is_a_gain():
    golden = noise(64, 10, dtype=np.float64)
    found = measure(golden, golden * 1.04)
    assert found.gain == pytest.approx(1.04, rel=1e-12)
    assert found.relative_l2 == pytest.approx(0.04, rel=1e-12)


def test_a_scaled_and_shifted_tensor_is_far_off():
    """Measures that normalise each side by itself see nothing here."""
    golden = noise(64, 10)
    assert measure(golden, 3 * golden + 5).relative_l2 > 1


def test_golden_zero_and_actual_huge_is_seen():
    """A mask of golden == 0, as some tools use, hides it."""
    golden = np.zeros((2, 3), np.float32)
    actual = golden.copy()
    actual[1, 2] = 1000
    found = measure(golden, actual)
    assert found.max_abs == 1000
    assert found.relative_l2 == math.inf
    assert found.zero_mismatch == pytest.approx(1 / 6)
    assert (found.gain, found.max_rel, found.snr_db) == (None, None, None)


@pytest.mark.parametrize("shape", [(2, 512, 7, 7), (2, 49, 512), (6, 512), (512,)])
def test_one_zeroed_channel_in_512_is_named(shape):
    golden = noise(*shape)
    golden[..., :] = np.where(np.abs(golden) < 0.5, 0.5, golden)
    actual = golden.copy()
    axis = shape.index(512)
    np.moveaxis(actual, axis, 0)[137] = 0
    found = measure(golden, actual)
    assert (found.worst_channel_axis, found.worst_channel_index) == (axis, 137)
    assert 0.4 < found.worst_channel <= 1
    assert found.zero_mismatch == pytest.approx(1 / 512)


def test_one_bad_sample_of_a_batch_is_named():
    golden = noise(100, 8, 5, 5)
    actual = golden.copy()
    actual[42] += 0.1
    found = measure(golden, actual)
    assert (found.worst_channel_axis, found.worst_channel_index) == (0, 42)


def test_a_permutation_keeps_sums_but_not_elements():
    golden = noise(1, 3, 16, 16)
    found = measure(golden, golden.transpose(0, 1, 3, 2))
    assert found.relative_l2 > 1
    assert abs(found.cosine) < 0.5


def test_a_channel_of_zeros_does_not_explode_from_a_rounding_error():
    golden = noise(1, 8, 16, 16)
    golden[:, 3] = 0
    actual = golden.copy()
    actual[:, 3] = 1e-7
    found = measure(golden, actual)
    assert found.worst_channel < 2e-7
    assert found.zero_mismatch == 0


def test_zeros_against_rounding_errors_are_no_zero_pattern():
    """A ReLU input of -1e-8 here and +1e-8 there is the same zero; 1e-2 is not."""
    golden = np.maximum(noise(1000), 0)
    assert measure(golden, golden + 1e-8).zero_mismatch == 0
    leaky = np.where(golden == 0, 0.01 * np.abs(noise(1000, seed=1)), golden)
    assert measure(golden, leaky).zero_mismatch > 0.3


def test_nan_on_one_side_and_the_sign_of_inf():
    golden = np.array([math.nan, math.inf, math.inf, math.nan, 1, 1], np.float32)
    actual = np.array([math.nan, math.inf, -math.inf, 1, math.nan, 1], np.float32)
    found = measure(golden, actual)
    assert (found.nonfinite_mismatches, found.mismatches) == (3, 3)
    assert found.relative_l2 == 0


def test_denormals_are_numbers():
    golden = np.full(10, 1e-45, np.float32)
    found = measure(golden, golden * 2)
    assert found.gain == 2
    assert found.relative_l2 == 1
    assert found.max_ulp == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_largest_values_do_not_overflow(dtype):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    golden = np.full(1000, ml_dtypes.finfo(dtype).max, dtype)
    actual = (golden.astype(np.longdouble) / 2).astype(dtype)
    found = measure(golden, actual)
    assert found.gain == pytest.approx(0.5)
    assert found.relative_l2 == pytest.approx(0.5)
    assert found.cosine == pytest.approx(1)
    assert math.isfinite(found.rmse)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_measured_as_the_numbers_it_holds(dtype):
    golden, actual = noise(50, 20).astype(dtype), noise(50, 20, seed=1).astype(dtype)
    halves, singles = measure(golden, actual), measure(*(x.astype("f4") for x in (golden, actual)))
    assert halves.relative_l2 == singles.relative_l2
    assert halves.max_ulp < singles.max_ulp


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_nonfinite_elements_are_left_out_in_every_dtype(dtype):
    golden = np.array([1, math.nan, math.inf, 2], dtype)
    actual = np.array([1, math.nan, 5, np.nextafter(dtype(2), dtype(3))], dtype)
    found = measure(golden, actual)
    assert (found.nonfinite_mismatches, found.mismatches, found.max_ulp) == (1, 2, 1)


def test_dtypes_may_differ():
    golden = noise(100)
    found = measure(golden, golden.astype(np.float16))
    assert found.max_ulp == 0
    assert 0 < found.relative_l2 < 2**-11


def test_large_integers_are_compared_to_the_last_digit():
    golden = np.array([2**62, -(2**62)], np.int64)
    found = measure(golden, golden + 1)
    assert (found.mismatches, found.max_abs, found.max_ulp) == (2, 1, None)


def test_unsigned_and_signed_integers_are_compared_by_value():
    golden = np.array([2**64 - 1], np.uint64)
    assert measure(golden, np.array([-1], np.int64)).mismatches == 1


def test_booleans():
    golden = np.array([True, False, True])
    assert measure(golden, ~golden).mismatches == 3
    assert measure(golden, golden).mismatches == 0


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5, 2)])
def test_no_element_gives_no_number(shape):
    found = measure(np.zeros(shape), np.zeros(shape))
    assert (found.count, found.mismatches) == (0, 0)
    assert all(value in {0, None} for value in asdict(found).values())


def test_a_scalar():
    found = measure(np.array(2.0), np.array(3.0))
    assert (found.count, found.relative_l2, found.gain) == (1, 0.5, 1.5)
    assert (found.worst_channel, found.worst_channel_index) == (0.5, 0)


def test_strides_do_not_matter():
    golden, actual = noise(6, 8, 10), noise(6, 8, 10, seed=1)
    plain = measure(golden.T.copy(), actual.T.copy())
    assert measure(golden.T, actual.T) == plain
    assert measure(golden.T[::-1][::-1], actual.T.copy()) == plain
    assert (
        measure(np.broadcast_to(golden[:1], (5, 8, 10)), np.repeat(golden[:1], 5, 0)).mismatches
        == 0
    )


def test_byte_order_does_not_matter():
    golden, actual = noise(20), noise(20, seed=1)
    assert measure(golden.astype(">f4"), actual.astype(">f4")) == measure(golden, actual)


def test_inputs_are_left_as_they_were():
    golden, actual = np.array([1.0, math.nan]), np.array([math.inf, 2.0])
    kept = golden.copy(), actual.copy()
    golden.flags.writeable = actual.flags.writeable = False
    measure(golden, actual)
    np.testing.assert_array_equal([golden, actual], kept)


def test_shapes_must_agree():
    with pytest.raises(TensorError, match=r"\[2, 3\] with shape \[3, 2\]"):
        measure(np.zeros((2, 3)), np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "datetime64[s]"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TensorError, match="not supported"):
        measure(np.zeros(2, dtype), np.zeros(2, dtype))


@pytest.mark.parametrize("shape", [(128, 3, 224, 224), (19_267_584,)])
def test_a_77_mb_pair_takes_little_memory(shape):
    golden = np.ones(shape, np.float32)
    actual = golden.copy()
    actual.ravel()[::1000] = 1.001
    tracemalloc.start()
    try:
        found = measure(golden, actual)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64e6
    assert found.mismatches == math.ceil(golden.size / 1000)


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_long_axes_are_folded_without_a_change_to_what_is_not_a_slice(rows, columns, most):
    golden, actual = noise(rows, columns), noise(rows, columns, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shipway.compare.blocks._MOST_SLICES", most)
        folded = measure(golden, actual)
    whole = measure(golden, actual)
    assert folded.relative_l2 == whole.relative_l2
    assert folded.worst_channel <= whole.worst_channel * (1 + 1e-12)
