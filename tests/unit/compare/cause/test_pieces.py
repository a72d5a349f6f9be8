"""Where the operators before a tensor can be run again, their mistakes are made and recognised."""

import numpy as np
import pytest
from numpy_pieces import (
    EVERY_PRECISION,
    NumpyPiece,
    attention,
    attention_piece,
    cause_of,
    convolution_piece,
    engine,
    given,
    linear_piece,
    noise,
    normalization,
    normalization_feeds,
    normalization_piece,
    unbiased,
)

from shipway.compare.cause.finding import find_cause
from shipway.compare.cause.precision import explains_precision
from shipway.errors import EngineError
from shipway.trace.golden import Operator


@EVERY_PRECISION
def test_a_mistake_that_gives_the_engines_numbers_names_the_operator(precision):
    """A bias that is missing before an activation has no simple shape any more."""
    piece, feeds = linear_piece(), given(precision, x=noise(2, 33, 32, seed=2))
    cause = cause_of(piece, feeds, engine(piece, feeds, precision, unbiased), precision)
    assert (cause.kind, cause.operator) == ("offset", "sum")
    assert cause.explanation.startswith("without its bias 'b': this gives the engine's numbers")


@EVERY_PRECISION
def test_a_few_outputs_are_enough_for_a_mistake(precision):
    piece, feeds = linear_piece(), given(precision, x=noise(1, 32, seed=2))
    cause = cause_of(piece, feeds, engine(piece, feeds, precision, unbiased), precision)
    assert (cause.kind, cause.operator) == ("offset", "sum")


@EVERY_PRECISION
def test_swapped_operands_and_a_softmax_along_another_axis(precision):
    piece = attention_piece()
    feeds = given(precision, q=noise(1, 3, 24, 16, seed=1), k=noise(1, 3, 24, 16, seed=2))
    wrong = engine(piece, feeds, precision, attention(2))
    cause = cause_of(piece, feeds, wrong, precision)
    assert (cause.kind, cause.operator) == ("layout", "y")
    swapped = engine(piece, {"q": feeds["k"], "k": feeds["q"]}, precision)
    cause = cause_of(piece, feeds, swapped, precision)
    assert (cause.kind, cause.operator) == ("input", "product")


@EVERY_PRECISION
def test_a_subtraction_the_other_way_round_is_no_gain(precision):
    """It is golden times -1, too; the mistake, which has no number to choose, says more."""
    piece = NumpyPiece(
        lambda f, _, keep: keep(f["x"] - f["r"]),
        {},
        ("x", "r"),
        (Operator("y", "Sub", ("x", "r")),),
        {("input", "operands swapped", "y"): lambda f, *_: f["r"] - f["x"]},
    )
    feeds = given(precision, x=noise(5, 60, seed=1), r=noise(5, 60, seed=2))
    cause = cause_of(piece, feeds, -engine(piece, feeds, precision), precision)
    assert cause.kind == "input"


@EVERY_PRECISION
def test_a_weight_too_large_before_a_bias_and_an_activation_is_a_gain(precision):
    piece, feeds = linear_piece(), given(precision, x=noise(2, 33, 32, seed=2))
    wrong = engine(piece, feeds, precision, w=1.05 * piece.weights["w"])
    cause = cause_of(piece, feeds, wrong, precision)
    assert cause.kind == "gain"
    assert "as if 'x' were scaled by 1.0" in cause.explanation


@EVERY_PRECISION
def test_a_scale_before_a_softmax_is_a_gain(precision):
    piece = attention_piece()
    feeds = given(precision, q=2 * noise(1, 3, 24, 16, seed=1), k=noise(1, 3, 24, 16, seed=2))
    wrong = engine(piece, feeds, precision, s=np.array(0.5))
    cause = cause_of(piece, feeds, wrong, precision)
    assert cause.kind == "gain"
    factor = float(cause.explanation.partition("scaled by ")[2].split()[0])
    assert factor == pytest.approx(2, rel=0.01)


@EVERY_PRECISION
@pytest.mark.parametrize("epsilon", [0.05, 0.02])
def test_an_epsilon_that_is_no_usual_mistake_is_measured(precision, epsilon):
    """With a residual sum before and a bias behind it, its effect has no simple shape."""
    piece, feeds = normalization_piece(), normalization_feeds(precision)
    wrong = engine(piece, feeds, precision, normalization(epsilon))
    cause = cause_of(piece, feeds, wrong, precision)
    assert cause.kind == "approximation"
    times = float(cause.explanation.partition("epsilon were ")[2].split()[0])
    assert times == pytest.approx(epsilon / 1e-5, rel=0.1)


def test_a_usual_epsilon_is_named():
    piece, feeds = normalization_piece(), normalization_feeds("f32")
    cause = cause_of(piece, feeds, engine(piece, feeds, "f32", normalization(1e-3)), "f32")
    assert (cause.kind, cause.operator) == ("approximation", "y")
    assert cause.explanation.startswith("epsilon 0.001 instead of 1e-05")


@EVERY_PRECISION
def test_a_gain_behind_a_normalization_is_no_epsilon(precision):
    piece, feeds = normalization_piece(), normalization_feeds(precision)
    piece.weights["b"] *= 0
    wrong = engine(piece, feeds, precision, g=1.05 * piece.weights["g"])
    cause = cause_of(piece, feeds, wrong, precision)
    assert cause.kind == "gain"


@EVERY_PRECISION
def test_noise_on_a_weight_is_linear_in_the_input(precision):
    piece, feeds = convolution_piece(), given(precision, x=noise(1, 6, 24, 24, seed=2))
    wrong = engine(piece, feeds, precision, w=piece.weights["w"] * (1 + 0.05 * noise(12, 6, 3, 3)))
    cause = cause_of(piece, feeds, wrong, precision)
    assert cause.kind == "input"
    assert "linear in the input 'x': 54 weights a channel" in cause.explanation


def test_noise_that_is_not_linear_in_the_input_is_not_said_to_be():
    piece, feeds = convolution_piece(), given("f32", x=noise(1, 6, 24, 24, seed=2))
    golden = piece.run(feeds)
    actual = golden + 0.05 * noise(*golden.shape, seed=7).astype(np.float32)
    assert "linear" not in cause_of(piece, feeds, actual, "f32").explanation


def test_an_even_error_with_too_few_rows_to_fit_is_laid_to_the_weights_and_says_how_it_came_to_that():
    piece, feeds = linear_piece(), given("f32", x=noise(1, 9, 32, seed=2))
    wrong = engine(piece, feeds, "f32", w=piece.weights["w"] + 0.01 * noise(32, 40, seed=3))
    cause = cause_of(piece, feeds, wrong, "f32")
    assert cause.kind == "input"
    assert "nor does any of 2 variants" in cause.explanation
    assert "in place of one of w, b, x" in cause.explanation


def test_an_error_without_structure_in_a_few_channels_stays_unknown():
    piece = NumpyPiece(
        lambda f, _, keep: keep(f["x"] + f["r"]),
        {},
        ("x", "r"),
        (Operator("y", "Add", ("x", "r")),),
    )
    feeds = given("f32", x=noise(4, 80, seed=1), r=noise(4, 80, seed=2))
    actual = piece.run(feeds)
    actual[1:, ::4] += 0.02 * noise(3, 20, seed=3)
    actual[0, :40] += 0.001 * noise(40, seed=3)
    actual[0, 0] += 0.2
    cause = cause_of(piece, feeds, actual, "f32")
    assert (cause.kind, cause.operator) == ("unknown", "y")
    assert "relative L2 0.010" in cause.explanation


def test_a_mistake_that_leaves_something_loses_to_a_shape_that_leaves_nothing():
    """A variant with nearly the right number is not the fault."""
    piece = NumpyPiece(
        lambda f, _, keep: keep(f["x"]),
        {},
        ("x",),
        (Operator("y", "Mul", ("x",)),),
        {("input", "a stale constant", "y"): lambda f, *_: 1.99 * f["x"]},
    )
    feeds = given("f32", x=noise(4, 80, seed=1))
    cause = cause_of(piece, feeds, 2 * piece.run(feeds), "f32")
    assert cause.kind == "gain"
    assert "scaled by 2;" in cause.explanation


def test_mistakes_that_cannot_be_made_are_counted_and_said():
    piece, feeds = linear_piece(), given("f32", x=noise(1, 9, 32, seed=2))

    def broken(f, w, keep):
        raise EngineError("no kernel")

    piece.mistakes = {
        ("input", "operands swapped", "product"): broken,
        ("layout", "transposed", "product"): lambda *_: np.zeros((3, 3)),
    }
    actual = piece.run(feeds) + 0.01 * noise(1, 9, 40, seed=3).astype(np.float32)
    explanation = cause_of(piece, feeds, actual, "f32").explanation
    assert "2 more could not be run (operands swapped: no kernel)" in explanation


def test_operators_that_do_not_lead_to_golden_are_not_believed():
    piece, feeds = linear_piece(), given("f32", x=noise(2, 33, 32, seed=2))
    golden = noise(2, 33, 40, seed=8).astype(np.float32)
    actual = golden + 0.1 * noise(2, 33, 40, seed=3).astype(np.float32)
    cause = find_cause(golden, actual, precision="f32", piece=piece, feeds=feeds)
    assert cause.kind == "unknown"
    assert "run again, do not give golden's tensor" in cause.explanation


def test_operators_that_fail_are_said_to():
    piece, feeds = linear_piece(), given("f32", x=noise(2, 33, 32, seed=2))
    golden = piece.run(feeds)

    def fail(feeds, rounding="f32"):
        raise EngineError("no memory")

    piece.run = fail
    actual = golden + 0.1 * noise(2, 33, 40, seed=3).astype(np.float32)
    cause = find_cause(golden, actual, precision="f32", piece=piece, feeds=feeds)
    assert "no memory" in cause.explanation
    assert explains_precision(piece, feeds, golden, actual, "bf16") == ""


def test_nan_says_whether_the_inputs_had_it():
    piece, feeds = linear_piece(), given("f32", x=noise(2, 33, 32, seed=2))
    golden = piece.run(feeds)
    actual = golden.copy()
    actual[0, 3, 4] = np.nan
    cause = find_cause(golden, actual, precision="f32", piece=piece, feeds=feeds)
    assert cause.kind == "nan"
    assert "every input of the operators before it is finite" in cause.explanation
    feeds["x"][0, 0, 0] = np.nan
    cause = find_cause(golden, actual, precision="f32", piece=piece, feeds=feeds)
    assert "come in with 'x'" in cause.explanation
