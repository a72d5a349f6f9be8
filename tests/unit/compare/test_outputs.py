"""Whole executions compared, output by output, over one input set or several."""

import json

import ml_dtypes
import numpy as np
import pytest

from shipway.compare.outputs import RunningComparison, compare_outputs, compare_sets
from shipway.compare.verdict import Limits
from shipway.errors import UsageError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sets(count, *shape):
    return [{"y": noise(*shape, seed=seed)} for seed in range(count)]


def reasons(comparison, name="y"):
    return next(o.verdict.reasons for o in comparison.outputs if o.name == name)


def test_equal_outputs_pass_and_names_and_shapes_are_kept():
    outputs = {"b": noise(2, 3), "a": np.arange(4)}
    found = compare_outputs(
        outputs, outputs, precision="f32", golden_name="torch", actual_name="openvino"
    )
    assert found.passed
    assert (found.golden, found.actual, found.precision) == ("torch", "openvino", "f32")
    assert [(o.name, o.dtype, o.shape) for o in found.outputs] == [
        ("b", "float32", (2, 3)),
        ("a", "int64", (4,)),
    ]
    assert found.coverage.compared == 2


def test_missing_and_extra_outputs_fail_with_the_side_named():
    found = compare_outputs(
        {"y": noise(3), "gone": noise(3)},
        {"y": noise(3), "new": noise(3)},
        precision="f32",
        actual_name="onnxruntime",
    )
    assert not found.passed
    assert found.coverage.compared == 1
    assert found.coverage.skipped == {
        "gone": "onnxruntime has no output 'gone'",
        "new": "golden has no output 'new'",
    }


def test_another_shape_fails_even_with_the_same_elements():
    found = compare_outputs({"y": noise(2, 6)}, {"y": noise(2, 6).reshape(3, 4)}, precision="f32")
    assert not found.passed
    assert found.coverage.skipped == {"y": "shape [2, 6] in golden, [3, 4] in actual"}


def test_no_output_at_all_is_no_success():
    assert not compare_outputs({}, {}, precision="f32").passed


def test_a_dtype_that_cannot_be_compared_is_skipped_with_the_reason():
    outputs = {"y": noise(3), "spectrum": np.zeros(3, np.complex64)}
    found = compare_outputs(outputs, outputs, precision="f32")
    assert not found.passed
    assert found.coverage.skipped == {"spectrum": "numpy dtype complex64 is not supported"}


@pytest.mark.parametrize(
    ("golden", "actual", "precision"),
    [
        (np.float32, np.float16, "f16"),
        (np.float32, ml_dtypes.bfloat16, "bf16"),
        (np.float64, np.float32, "f32"),
        (np.float64, np.float32, "bf16"),
    ],
)
def test_the_dtype_of_the_precision_is_accepted(golden, actual, precision):
    values = noise(20, 20)
    found = compare_outputs(
        {"y": values.astype(golden)}, {"y": values.astype(actual)}, precision=precision
    )
    assert found.passed, reasons(found)


@pytest.mark.parametrize(
    ("golden", "actual", "precision"),
    [
        (np.float32, np.float16, "f32"),
        (np.float32, np.float16, "bf16"),
        (np.float16, np.float32, "f32"),
        (np.float32, np.int32, "f32"),
        (np.int64, np.int32, "f32"),
        (np.bool_, np.uint8, "f32"),
    ],
)
def test_any_other_change_of_dtype_fails(golden, actual, precision):
    values = np.ones((3, 3))
    found = compare_outputs(
        {"y": values.astype(golden)}, {"y": values.astype(actual)}, precision=precision
    )
    expected = f"dtype is {np.dtype(actual).name}, but {np.dtype(golden).name} in golden"
    assert reasons(found) == (expected,)


def test_byte_order_is_no_change_of_dtype():
    values = noise(5)
    assert compare_outputs({"y": values.astype(">f4")}, {"y": values}, precision="f32").passed


def test_an_output_stored_in_half_precision_gets_the_limits_of_half_precision():
    golden = noise(100, 10).astype(np.float16)
    actual = np.nextafter(golden, np.float16(np.inf))
    assert compare_outputs({"y": golden}, {"y": actual}, precision="f32").passed


def test_limits_given_replace_those_of_the_precision():
    golden = {"y": noise(10, 10)}
    actual = {"y": golden["y"] * np.float32(1.5)}
    assert compare_outputs(golden, actual, precision="f32", limits=Limits(1, 1, 1, 1)).passed


def test_an_unknown_precision_is_refused_even_with_limits():
    with pytest.raises(UsageError, match="int4"):
        compare_outputs({}, {}, precision="int4", limits=Limits(1, 1, 1, 1))


@pytest.mark.parametrize(("golden", "actual"), [(0, 0), (2, 1)])
def test_sets_must_come_in_pairs(golden, actual):
    with pytest.raises(UsageError, match="sets of outputs"):
        compare_sets(sets(golden, 3), sets(actual, 3), precision="f32")


def test_metrics_of_several_sets_are_those_of_all_their_elements():
    golden, actual = sets(5, 4, 6), [{"y": noise(4, 6, seed=seed + 9)} for seed in range(5)]
    found = compare_sets(golden, actual, precision="f32").outputs[0].metrics
    left, right = (np.concatenate([one["y"] for one in side]) for side in (golden, actual))
    assert found.count == 120
    assert found.relative_l2 == pytest.approx(
        np.linalg.norm(left - right) / np.linalg.norm(left), rel=1e-6
    )
    assert found.max_abs == np.abs(left.astype("f8") - right.astype("f8")).max()


def test_one_bad_set_is_not_averaged_away():
    golden = sets(5000, 2)
    actual = [dict(one) for one in golden]
    actual[1234] = {"y": golden[1234]["y"] + np.float32(1e-3)}
    found = compare_sets(golden, actual, precision="f32")
    assert found.outputs[0].metrics.relative_l2 < 2**-15
    assert not found.passed
    assert reasons(found)[0].startswith("relative L2 of input set 1235 of 5000 alone is")


def test_a_score_near_zero_in_one_set_is_no_failure():
    """One number a set: 1e-7 beside 1e-6 is 10 % of it, and nothing beside the others."""
    golden = [{"y": np.array([[score]], np.float32)} for score in (3.0, -2.0, 1e-6, 4.0)]
    actual = [{"y": one["y"] + np.float32(1e-7)} for one in golden]
    assert compare_sets(golden, actual, precision="f32").passed


def test_nan_in_one_set_fails_all():
    golden = sets(4, 3, 3)
    actual = [dict(one) for one in golden]
    actual[2] = {"y": np.where(np.eye(3) > 0, np.nan, golden[2]["y"]).astype(np.float32)}
    found = compare_sets(golden, actual, precision="f32")
    assert reasons(found)[0].startswith("3 of 36 elements are NaN or Inf on one side only")


def test_integers_of_several_sets_are_exact():
    golden = [{"y": np.arange(3)} for _ in range(3)]
    actual = [{"y": np.arange(3)} for _ in range(3)]
    actual[1]["y"][2] = 7
    assert reasons(compare_sets(golden, actual, precision="f32")) == (
        "1 of 9 elements differ; limit 0",
    )


def test_sets_of_different_sizes():
    golden = [{"y": noise(*shape)} for shape in ((1, 4, 8), (2, 4, 30), (7, 4, 1))]
    assert compare_sets(golden, golden, precision="f32").passed
    actual = [dict(one) for one in golden]
    actual[1] = {"y": golden[1]["y"].copy()}
    actual[1]["y"][:, :, 29] = 0
    found = compare_sets(golden, actual, precision="f32").outputs[0].metrics
    assert (found.worst_channel_axis, found.worst_channel_index) == (2, 29)


@pytest.mark.parametrize(
    ("golden", "actual", "why"),
    [
        ({"y": noise(3)}, {"y": noise(4)}, "shape [3] in golden, [4] in actual (input set 2)"),
        ({"y": noise(3)}, {}, "actual has no output 'y' (input set 2)"),
        ({}, {}, "golden has no output 'y' (input set 2)"),
    ],
)
def test_an_output_that_goes_wrong_in_a_later_set_is_skipped_as_a_whole(golden, actual, why):
    first = {"y": noise(3)}
    found = compare_sets([first, golden], [first, actual], precision="f32")
    assert found.coverage.skipped == {"y": why}
    assert found.outputs == ()


def test_an_output_that_only_comes_later_is_skipped():
    found = compare_sets([{}, {"y": noise(3)}], [{}, {"y": noise(3)}], precision="f32")
    assert "y" in found.coverage.skipped


def test_a_dtype_that_changes_from_set_to_set_fails():
    golden = [{"y": noise(3)}, {"y": noise(3).astype(np.float64)}]
    found = compare_sets(golden, golden, precision="f32")
    assert reasons(found) == ("dtype of golden changes from float32 to float64",)


def test_sets_one_after_the_other_give_the_same_as_all_at_once():
    golden, actual = sets(4, 5, 5), [{"y": noise(5, 5, seed=seed + 9)} for seed in range(4)]
    running = RunningComparison("f32")
    for pair in zip(golden, actual, strict=True):
        running.add(*pair)
    assert running.result() == compare_sets(golden, actual, precision="f32")


def test_the_result_is_json_even_where_a_number_is_infinite():
    found = compare_outputs({"y": np.zeros(3)}, {"y": np.ones(3)}, precision="f32")
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["outputs"][0]["metrics"]["relative_l2"] == "inf"
    assert float(data["outputs"][0]["metrics"]["worst_channel"]) == np.inf
    assert data["passed"] is False


def test_scalars_and_empty_outputs():
    golden = {"loss": np.float32(2), "boxes": np.zeros((0, 4), np.float32)}
    found = compare_outputs(golden, golden, precision="f32")
    assert found.passed
    assert [output.shape for output in found.outputs] == [(), (0, 4)]
    assert found.outputs[1].metrics.relative_l2 is None
