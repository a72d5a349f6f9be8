"""Limits and the verdicts that follow from them."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.compare.metrics import measure
from shipway.compare.verdict import Limits, judge, limits_for
from shipway.errors import UsageError

PRECISIONS = ("f32", "f16", "bf16")
CLEAN_LOCAL = {  # largest values of clean engines in facts/divergence.md, section 6
    "f32": (2.8e-7, 1.3e-6, 1.6e-7),
    "f16": (3.8e-4, 1.2e-3, 3.3e-5),
    "bf16": (2.9e-3, 1.3e-2, 2.2e-4),
}
STUDIED_LOCAL = {
    "f32": (1e-5, 4e-5, 1e-6, 1e-3),
    "f16": (2**-9, 2**-7, 3e-4, 1e-3),
    "bf16": (4.5e-3, 1.8e-2, 2e-3, 4e-3),  # zeros: a clean ResNet has 6e-4, rounding alone
}


ROOM = {"f32": 2, "f16": 2, "bf16": 1.3}  # in bf16, what is beyond is run again with rounding


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def verdict(golden, actual, precision="f32", **options):
    dtype = np.asarray(golden).dtype.name
    return judge(measure(golden, actual), dtype, limits_for(precision, **options))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_local_limits_are_those_of_the_fault_study(precision):
    assert dataclasses.astuple(limits_for(precision, local=True)) == STUDIED_LOCAL[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_local_limits_leave_clean_engines_room(precision):
    limits = limits_for(precision, local=True)
    clean = CLEAN_LOCAL[precision]
    for limit, largest in zip(
        (limits.relative_l2, limits.worst_channel, limits.gain), clean, strict=True
    ):
        assert limit > ROOM[precision] * largest


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_whole_model_may_be_off_by_more_than_one_operator(precision):
    local, whole = limits_for(precision, local=True), limits_for(precision)
    for name in ("relative_l2", "worst_channel", "gain", "zero_mismatch"):
        assert getattr(whole, name) >= getattr(local, name)


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="int8") as caught:
        limits_for("int8")
    assert "f32" in caught.value.hint


def test_equal_tensors_pass_without_a_reason():
    found = verdict(noise(4, 10), noise(4, 10))
    assert found.passed
    assert found.reasons == ()
    assert found.limits == {
        "nonfinite_mismatches": 0.0,
        "relative_l2": 2**-15,
        "worst_channel": 2**-13,
        "gain": 2**-16,
        "zero_mismatch": 1e-3,
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_four_percent_too_much_fails_and_the_gain_is_named(precision):
    """x * 1.04 passes all five thresholds of msit, and in bf16 our relative L2 as well."""
    golden = noise(64, 100)
    found = verdict(golden, golden * np.float32(1.04), precision)
    assert not found.passed
    gain = next(reason for reason in found.reasons if reason.startswith("gain is 1.04"))
    assert "100% of the squared error" in gain


def test_a_permutation_is_not_called_a_scale_error():
    golden = noise(1, 3, 32, 32)
    found = verdict(golden, golden.transpose(0, 1, 3, 2))
    assert not found.passed
    assert not any("scale error" in reason for reason in found.reasons)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_zeroed_channel_of_512_fails(precision):
    golden = noise(8, 512, 7, 7)
    actual = golden.copy()
    actual[:, 137] = 0
    reasons = verdict(golden, actual, precision).reasons
    assert any("slice 137 on axis 1" in reason for reason in reasons)


def test_nan_comes_first():
    golden = noise(10, 10)
    actual = golden * 2
    actual[3, 4] = np.nan
    reasons = verdict(golden, actual).reasons
    assert reasons[0].startswith("1 of 100 elements are NaN or Inf on one side only")
    assert any("relative L2" in reason for reason in reasons)


def test_one_nan_alone_is_enough_to_fail():
    golden = noise(1000, 1000)
    actual = golden.copy()
    actual[3, 4] = np.nan
    assert not verdict(golden, actual, "bf16").passed


def test_the_same_nan_on_both_sides_passes():
    golden = noise(10, 10)
    golden[3, 4], golden[5, 6] = np.nan, -np.inf
    assert verdict(golden, golden.copy()).passed


def test_nothing_but_nan_proves_nothing():
    golden = np.full(4, np.nan, np.float32)
    found = verdict(golden, golden)
    assert found.reasons == ("no element is finite on both sides, so nothing could be compared",)


def test_a_metric_that_is_nan_can_never_pass():
    metrics = measure(noise(9), noise(9))
    for name in ("relative_l2", "worst_channel", "gain", "zero_mismatch"):
        broken = dataclasses.replace(metrics, **{name: float("nan")})
        assert not judge(broken, "float32", limits_for("f32")).passed


def test_limits_may_be_infinite_and_the_verdict_still_json():
    found = judge(measure(noise(9), -noise(9)), "float32", Limits(*[float("inf")] * 4))
    assert found.passed
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["limits"]["gain"] == "inf"


def test_an_empty_tensor_is_trivially_equal():
    assert verdict(np.zeros((0, 5), np.float32), np.zeros((0, 5), np.float32)).passed


def test_golden_zero_and_actual_not_fails():
    assert not verdict(np.zeros(9, np.float32), np.full(9, 1e-30, np.float32)).passed
    assert verdict(np.zeros(9, np.float32), np.zeros(9, np.float32)).passed


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_must_be_equal(dtype):
    golden = np.zeros(1000, dtype)
    actual = golden.copy()
    assert verdict(golden, actual, "bf16").passed
    actual[7] = 1
    found = verdict(golden, actual, "bf16")
    assert found.reasons == ("1 of 1000 elements differ; limit 0",)
    assert found.limits == {"mismatches": 0.0}


@given(st.integers(1, 400), st.integers(0, 1000))
def test_a_gain_that_noise_explains_is_not_held_against_a_small_tensor(size, seed):
    """Noise just below the limit on relative L2: the fewer elements, the more of it is a gain."""
    golden = noise(size, seed=seed) + 2
    error = np.random.default_rng(seed + 1).standard_normal(size)
    error *= 0.9 * 2**-15 * np.linalg.norm(golden.astype("f8")) / np.linalg.norm(error)
    found = verdict(golden.astype("f8"), golden.astype("f8") + error)
    assert not any(reason.startswith("gain") for reason in found.reasons)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_relu_that_leaks_fails(precision):
    before = noise(64, 64)
    golden = np.maximum(before, 0)
    found = verdict(golden, np.where(before > 0, before, 0.01 * before), precision)
    assert any("zero on one side only" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("precision", "unit"), [("f32", 2.0**-19), ("f16", 2.0**-10), ("bf16", 2.0**-7)]
)
def test_a_relu_over_rounding_errors_passes(precision, unit):
    """Errors of the size clean engines show, before the ReLU; some elements change their sign."""
    before = noise(64, 64, 8)
    error = unit * noise(64, 64, 8, seed=1)
    found = verdict(np.maximum(before, 0), np.maximum(before + error, 0), precision)
    assert found.passed, found.reasons


def test_a_pure_gain_is_called_one_even_in_a_small_tensor() -> None:
    golden = np.linspace(1, 2, 10, dtype=np.float32)
    verdict = judge(measure(golden, golden * np.float32(1.04)), "float32", limits_for("f32"))
    assert any(reason.startswith("gain is 1.04") for reason in verdict.reasons)
