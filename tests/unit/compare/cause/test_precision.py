"""Rounding excuses an error that it makes by itself, and no fault of the same size."""

import numpy as np
import pytest
from numpy_pieces import (
    EVERY_PIECE,
    EVERY_PRECISION,
    LOW_PRECISION,
    PIECES,
    NumpyPiece,
    cause_of,
    engine,
    given,
    linear_piece,
    noise,
    rounded,
    silu,
)

from shipway.compare.cause.precision import explains_coarser, explains_precision
from shipway.compare.metrics import measure
from shipway.compare.verdict import judge, limits_for
from shipway.errors import TensorError
from shipway.trace.golden import Operator


@LOW_PRECISION
@EVERY_PIECE
def test_an_engine_that_rounds_is_excused(name, precision):
    make, feed = PIECES[name]
    piece, feeds = make(), feed(precision)
    golden = piece.run(feeds)
    sentence = explains_precision(piece, feeds, golden, piece.run(feeds, precision), precision)
    assert sentence.startswith("precision only: ")
    clean = engine(piece, feeds, precision)
    assert explains_precision(piece, feeds, golden, clean, precision)
    assert f"in {precision} makes an error of" in sentence


@EVERY_PRECISION
def test_a_sum_that_cancels_is_excused(precision):
    """All but 1 / 2000 of it vanishes, so that the rounding of the terms is beyond the limits."""

    def compute(f, w, keep):
        return keep(keep(f["x"] * 1.7) - keep(f["x"] * 1.6992))

    operators = (Operator("t", "Mul", ("x",)), Operator("y", "Sub", ("t",)))
    piece = NumpyPiece(compute, {}, ("x",), operators)
    feeds = given(precision, x=noise(8, 100, seed=1))
    golden = piece.run(feeds)
    actual = piece.run(feeds, "f64" if precision == "f32" else precision)
    limits = limits_for(precision, local=True)
    assert not judge(measure(golden, actual), "float32", limits).passed
    assert explains_precision(piece, feeds, golden, actual, precision)
    assert cause_of(piece, feeds, actual, precision).kind == "precision"


@EVERY_PRECISION
@EVERY_PIECE
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: 1.02 * x,
        lambda x: np.where(np.arange(x.shape[-1]) == 3, 0, x),
        lambda x: np.where(np.arange(x.shape[-1]) == 3, 1.1 * x, x),
        lambda x: x + 0.05 * np.sqrt(np.mean(x**2)) * noise(*x.shape, seed=4),
        lambda x: np.where(noise(*x.shape, seed=4) > 2, 0, x),
        lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x),
        lambda x: x[..., ::-1],
    ],
    ids=["gain", "zero channel", "channel", "noise", "zeros", "nan", "layout"],
)
def test_a_fault_is_not_excused_as_rounding(name, precision, spoil):
    """Not even where its size is near that of the rounding."""
    make, feed = PIECES[name]
    piece, feeds = make(), feed(precision)
    actual = spoil(engine(piece, feeds, precision).astype(np.float64))
    actual = rounded(actual, precision)
    assert explains_precision(piece, feeds, piece.run(feeds), actual, precision) == ""


def test_integers_are_never_excused():
    piece, feeds = linear_piece(), given("bf16", x=noise(2, 33, 32, seed=2))
    assert explains_precision(piece, feeds, np.arange(4), np.arange(4) + 1, "bf16") == ""


def test_shapes_that_differ_are_refused():
    piece, feeds = linear_piece(), given("bf16", x=noise(2, 33, 32, seed=2))
    with pytest.raises(TensorError, match=r"\[4\] with shape \[5\]"):
        explains_precision(piece, feeds, np.zeros(4), np.zeros(5), "bf16")


@pytest.mark.parametrize("coarser", ["f16", "bf16"])
@EVERY_PIECE
def test_an_engine_that_computes_in_less_than_it_says_is_found_out(name, coarser):
    make, feed = PIECES[name]
    piece, feeds = make(), feed("f32")
    cause = cause_of(piece, feeds, piece.run(feeds, coarser), "f32")
    assert cause.kind == "precision"
    assert f"that computing in {coarser} makes" in cause.explanation
    assert cause.explanation.endswith("not f32")


def matrix_units(f, w, keep):
    """`linear` as an engine in f16 computes it whose matrix units take bf16: operands rounded."""
    operands = (rounded(one, "bf16").astype(np.float64) for one in (f["x"], w["w"]))
    first, second = operands
    return silu(first @ second + w["b"])


def test_operands_that_are_rounded_further_than_said_are_found_out():
    piece, feeds = linear_piece(), given("f16", x=noise(4, 50, 32, seed=2))
    golden, actual = piece.run(feeds), engine(piece, feeds, "f16", matrix_units)
    assert explains_precision(piece, feeds, golden, actual, "f16") == ""
    sentence = explains_coarser(piece, feeds, golden, actual, "f16")
    assert "the one that computing in bf16 makes" in sentence
    assert cause_of(piece, feeds, actual, "f16").kind == "precision"
    assert explains_coarser(piece, feeds, golden, actual, "bf16") == ""


@EVERY_PIECE
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: 1.003 * x,
        lambda x: x + 0.003 * np.sqrt(np.mean(x**2)) * noise(*x.shape, seed=4),
        lambda x: np.where(np.arange(x.shape[-1]) == 3, 1.02 * x, x),
        lambda x: x[..., ::-1],
    ],
    ids=["gain", "noise", "channel", "layout"],
)
def test_a_fault_of_the_size_of_another_dtype_is_not_taken_for_it(name, spoil):
    make, feed = PIECES[name]
    piece, feeds = make(), feed("f16")
    actual = rounded(spoil(engine(piece, feeds, "f16").astype(np.float64)), "f16")
    assert explains_coarser(piece, feeds, piece.run(feeds), actual, "f16") == ""
