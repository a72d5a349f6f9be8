"""A factor or a bias inside the operators before a tensor is found, and its place named."""

import numpy as np
import pytest
from numpy_pieces import (
    EVERY_PRECISION,
    NumpyPiece,
    engine,
    given,
    noise,
    silu,
)

from shipway.compare.cause.finding import find_cause
from shipway.errors import EngineError
from shipway.trace.golden import Operator


def residual(f, w, keep):
    """Two convolutions by one point each, with biases, added up before an activation."""
    found = {
        "left": lambda: f["x"] @ w["w"] + w["b"],
        "right": lambda: f["r"] @ w["v"] + w["c"],
    }
    return keep(silu(sum(keep(f[name] if name in f else make()) for name, make in found.items())))


def residual_piece():
    weights = {
        "w": noise(32, 40) / np.sqrt(32),
        "b": 0.4 * noise(40, seed=1),
        "v": noise(32, 40, seed=2) / np.sqrt(32),
        "c": 0.4 * noise(40, seed=3),
    }
    operators = (
        Operator("left", "Gemm", ("x", "w", "b")),
        Operator("right", "Gemm", ("r", "v", "c")),
        Operator("y", "SiLU", ("left", "right")),
    )
    return NumpyPiece(residual, weights, ("x", "r"), operators)


def cut_residual(name, starts):
    """Cut the pieces of `residual_piece` that lie between other tensors."""
    piece = residual_piece()
    if name == "y":
        branches = {"left": "x", "right": "r"}
        piece.inputs = tuple(one if one in starts else feed for one, feed in branches.items())
        return piece
    weight, bias, feed = {"left": ("w", "b", "x"), "right": ("v", "c", "r")}[name]
    return NumpyPiece(
        lambda f, w, keep: keep(f[feed] @ w[weight] + w[bias]),
        piece.weights,
        (feed,),
        tuple(one for one in piece.operators if one.name == name),
        output=name,
    )


def residual_feeds(precision):
    return given(precision, x=noise(2, 33, 32, seed=4), r=noise(2, 33, 32, seed=5))


@EVERY_PRECISION
@pytest.mark.parametrize(("weight", "bias", "name"), [("w", "b", "left"), ("v", "c", "right")])
def test_a_factor_on_one_branch_of_a_sum_names_the_branch(precision, weight, bias, name):
    """Weight and bias of one of two branches are too large; no input scaled does the same."""
    piece, feeds = residual_piece(), residual_feeds(precision)
    spoilt = {one: 1.05 * piece.weights[one] for one in (weight, bias)}
    wrong = engine(piece, feeds, precision, **spoilt)
    cause = find_cause(
        piece.run(feeds), wrong, precision=precision, piece=piece, feeds=feeds, cut=cut_residual
    )
    assert (cause.kind, cause.operator) == ("gain", name)
    factor = float(cause.explanation.partition("scaled by ")[2].split(";")[0])
    assert factor == pytest.approx(1.05, abs=0.005)


@EVERY_PRECISION
def test_another_bias_before_an_activation_is_an_offset_inside(precision):
    piece, feeds = residual_piece(), residual_feeds(precision)
    wrong = engine(piece, feeds, precision, b=piece.weights["b"] + 0.3 * noise(40, seed=8))
    cause = find_cause(
        piece.run(feeds), wrong, precision=precision, piece=piece, feeds=feeds, cut=cut_residual
    )
    assert cause.kind == "offset"
    assert cause.operator in {"left", "right"}
    assert "to each slice of" in cause.explanation


def test_pieces_that_cannot_be_cut_are_left_out():
    piece, feeds = residual_piece(), residual_feeds("f32")
    actual = piece.run(feeds) + 0.01 * noise(2, 33, 40, seed=3).astype(np.float32)

    def cut(name, starts):
        raise EngineError("no such tensor")

    cause = find_cause(piece.run(feeds), actual, precision="f32", piece=piece, feeds=feeds, cut=cut)
    assert cause.kind == "input"
