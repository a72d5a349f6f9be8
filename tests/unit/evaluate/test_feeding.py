"""Fitting samples to inputs and outputs to scores: every mismatch is told before or as it shows."""

import ml_dtypes
import numpy as np
import pytest

from shipway.engines.base import BaseSession
from shipway.errors import EngineError, TensorError
from shipway.evaluate.feeding import plan_feed
from shipway.tensors import parse_spec


def session(inputs, outputs):
    specs = [tuple(map(parse_spec, side.split())) for side in (inputs, outputs)]
    return BaseSession(*specs, {})


def plan(inputs="x:f32[n,2]", outputs="s:f32[n,3]", *, batch=1, input_name="", output_name=""):
    return plan_feed(
        session(inputs, outputs),
        batch=batch,
        wanted=(input_name, output_name),
        preprocess="crop 2",
    )


@pytest.mark.parametrize(
    ("spec", "asked", "batch", "fixed"),
    [
        ("x:f32[n,2]", 8, 8, False),
        ("x:f32[?,2]", 8, 8, False),
        ("x:f32[8,2]", 8, 8, True),
        ("x:f32[8,2]", 1, 8, True),
        ("x:f32[1,2]", 1, 1, True),
    ],
)
def test_a_fixed_batch_of_the_model_is_used(spec, asked, batch, fixed):
    feed = plan(spec, batch=asked)
    assert (feed.batch, feed.fixed) == (batch, fixed)


@pytest.mark.parametrize(("spec", "asked"), [("x:f32[1,2]", 8), ("x:f32[8,2]", 4)])
def test_another_batch_than_the_models_fixed_one_is_refused(spec, asked):
    with pytest.raises(TensorError, match=rf"batches of \d, not {asked}") as caught:
        plan(spec, batch=asked)
    assert "--batch" in caught.value.hint
    assert "x:float32[batch,2]" in caught.value.hint


@pytest.mark.parametrize(
    ("inputs", "outputs", "names", "message"),
    [
        ("a:f32[n] b:f32[n]", "s:f32[n,3]", ("", ""), "takes 2 inputs"),
        ("a:f32[n] b:f32[n]", "s:f32[n,3]", ("b", ""), "takes 2 inputs"),
        ("", "s:f32[n,3]", ("", ""), "no input"),
        ("x:f32[n]", "", ("", ""), "no output"),
        ("x:f32[n]", "s:f32[n,3]", ("y", ""), "no input 'y'; it has x"),
        ("x:f32[n]", "s:f32[n,3]", ("", "t"), "no output 't'; it has s"),
        ("x:f32[n]", "s:f32[n,3] t:f32[n,3]", ("", ""), "has 2 outputs: s, t"),
        ("x:f32[]", "s:f32[n,3]", ("", ""), "no batch axis"),
        ("x:f32[n]", "s:f32[n]", ("", ""), "has shape [n]; an evaluation needs [batch, classes]"),
        ("x:f32[n]", "s:f32[n,3,7,7]", ("", ""), "has shape [n,3,7,7]"),
        ("x:f32[n]", "s:f32[n,0]", ("", ""), "has shape [n,0]"),
    ],
)
def test_a_model_that_is_no_classifier_of_one_input_is_refused(inputs, outputs, names, message):
    with pytest.raises(TensorError) as caught:
        plan(inputs, outputs, input_name=names[0], output_name=names[1])
    assert message in str(caught.value)


def test_the_scores_are_chosen_by_name_among_outputs():
    feed = plan(outputs="aux:f32[n,9] s:f32[n,3,1,1]", output_name="s")
    assert (feed.output, feed.classes) == ("s", 3)


@pytest.mark.parametrize("outputs", ["s:f32[n,c]", "s:f32[n,?]"])
def test_classes_may_be_unknown_before_the_run(outputs):
    assert plan(outputs=outputs).classes is None


@pytest.mark.parametrize(
    "sample", [np.zeros(3), np.zeros((2, 1)), np.zeros(()), np.zeros((1, 2))], ids=lambda s: s.shape
)
def test_a_sample_of_another_shape_is_refused_with_the_preprocessing(sample):
    with pytest.raises(TensorError) as caught:
        plan().fit(sample.astype(np.float32), "a b.jpg")
    assert f"'a b.jpg' has shape {list(sample.shape)}; input 'x' takes [2]" in str(caught.value)
    assert "'crop 2'" in caught.value.hint


def test_symbolic_sizes_take_any_shape_of_the_right_rank():
    feed = plan("x:f32[n,3,h,w]")
    assert feed.fit(np.zeros((3, 5, 9), np.float32), "a").shape == (3, 5, 9)


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float64, ml_dtypes.bfloat16], ids=lambda dtype: np.dtype(dtype).name
)
def test_float32_samples_are_cast_to_another_float_and_that_is_said(dtype):
    feed = plan(f"x:{np.dtype(dtype).name}[n,2]")
    value = feed.fit(np.array([0.1, 2.5], np.float32), "a")
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, np.array([0.1, 2.5], np.float32).astype(dtype))
    assert np.dtype(dtype).name in feed.cast_note


def test_float32_models_have_no_cast_note():
    assert plan().cast_note == ""


def test_a_value_that_overflows_in_the_cast_is_told():
    with pytest.raises(TensorError, match="'a' does not fit the model's float16: 70000 overflows"):
        plan("x:f16[n,2]").fit(np.array([7e4, 0], np.float32), "a")


@pytest.mark.parametrize(
    ("spec", "dtype", "hint"),
    [
        ("x:f32[n,2]", np.uint8, "scale 1/255"),
        ("x:f32[n,2]", np.float64, "astype('float32')"),
        ("x:u8[n,2]", np.float32, "add 'dtype uint8'"),
        ("x:i64[n,2]", np.float32, "astype('int64')"),
        ("x:f16[n,2]", np.float64, "astype('float16')"),
    ],
)
def test_any_other_dtype_is_refused_with_what_to_do(spec, dtype, hint):
    with pytest.raises(TensorError) as caught:
        plan(spec).fit(np.zeros(2, dtype), "a")
    assert np.dtype(dtype).name in str(caught.value)
    assert hint in caught.value.hint


def test_uint8_and_integer_samples_pass_where_the_model_takes_them():
    for dtype in (np.uint8, np.int64):
        sample = np.zeros(2, dtype)
        assert plan(f"x:{np.dtype(dtype).name}[n,2]").fit(sample, "a") is sample


def test_only_a_fixed_batch_is_filled_up_with_the_last_sample():
    samples = [np.full(2, value, np.float32) for value in (1, 2)]
    fixed = plan("x:f32[4,2]").batch_of(samples)["x"]
    assert fixed[:, 0].tolist() == [1, 2, 2, 2]
    assert plan(batch=4).batch_of(samples)["x"].shape == (2, 2)


def test_different_shapes_in_one_batch_are_refused():
    feed = plan("x:f32[n,h]", batch=2)
    with pytest.raises(TensorError, match=r"different shapes: \[2\], \[3\]"):
        feed.batch_of([np.zeros(3, np.float32), np.zeros(2, np.float32)])


def test_padding_is_cut_off_the_scores():
    feed = plan("x:f32[4,2]")
    scores = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert feed.scores_of({"s": scores}, ["a", "b"]).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_nan_in_the_padding_is_nobodys_score():
    scores = np.array([[0, 1], [np.nan, np.nan]], np.float32)
    assert plan("x:f32[2,2]").scores_of({"s": scores}, ["a"]).tolist() == [[0, 1]]


def test_trailing_ones_are_squeezed():
    scores = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    assert plan().scores_of({"s": scores}, ["a", "b"]).shape == (2, 3)


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 3, 2), (2, 0)], ids=str)
def test_an_output_of_another_shape_is_refused(shape):
    with pytest.raises(TensorError, match="an evaluation needs"):
        plan().scores_of({"s": np.zeros(shape, np.float32)}, ["a", "b"])


def test_an_output_that_is_no_number_is_refused():
    with pytest.raises(TensorError, match="dtype bool"):
        plan().scores_of({"s": np.zeros((1, 3), bool)}, ["a"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_nan_and_infinity_are_engine_errors_that_name_the_sample(bad, dtype):
    scores = np.zeros((2, 3), np.float32)
    scores[1, 2] = bad
    with pytest.raises(EngineError, match=rf"'s' is {bad} for sample 'b' \(class 2\)"):
        plan().scores_of({"s": scores.astype(dtype)}, ["a", "b"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ml_dtypes.bfloat16, np.float64])
def test_scores_of_any_real_dtype_are_taken(dtype):
    scores = np.array([[3, 1, 2]]).astype(dtype)
    assert plan().scores_of({"s": scores}, ["a"]).argmax() == 0
