"""Operators written in numpy, with their usual mistakes, and an engine that fuses them."""

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest

from shipway.compare.cause.finding import find_cause
from shipway.trace.golden import Operator, Variant

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
EVERY_PRECISION = pytest.mark.parametrize("precision", DTYPES)
LOW_PRECISION = pytest.mark.parametrize("precision", ["f16", "bf16"])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rounded(values, rounding):
    return np.asarray(values, np.float64 if rounding == "f64" else DTYPES[rounding])


@dataclass
class NumpyPiece:
    """Operators written in numpy: `compute(feeds, weights, round)` rounds each result by itself."""

    compute: object
    weights: dict
    inputs: tuple
    operators: tuple
    mistakes: dict = field(default_factory=dict)
    output: str = "y"

    def run(self, feeds, rounding="f32"):
        def keep(values):
            return rounded(values, rounding).astype(np.float64)

        feeds, weights = (
            {name: keep(value) for name, value in given.items()} for given in (feeds, self.weights)
        )
        found = np.asarray(self.compute(feeds, weights, keep))
        return found.astype(np.float64 if rounding == "f64" else np.float32)

    def variants(self):
        for (cause, title, operator), compute in self.mistakes.items():
            yield Variant(cause, title, operator, self._runner(compute))

    def _runner(self, compute):
        def run(feeds):
            wide = {name: value.astype(np.float64) for name, value in feeds.items()}
            return np.asarray(compute(wide, self.weights, lambda x: x)).astype(np.float32)

        return run


def engine(piece, feeds, precision, compute=None, **weights):
    """Run a piece as a fused engine does: weights and the last result rounded, and in any order."""
    used = {**piece.weights, **weights}
    used = {name: rounded(value, precision).astype(np.float64) for name, value in used.items()}
    wide = {name: value.astype(np.float64) for name, value in feeds.items()}
    found = (compute or piece.compute)(wide, used, lambda x: x)
    return rounded(found * (1 + 1e-7 * noise(*found.shape, seed=9)), precision)


def given(precision, **feeds):
    """Return the inputs as the engine has them: numbers of its own dtype."""
    return {name: rounded(value, precision).astype(np.float32) for name, value in feeds.items()}


def cause_of(piece, feeds, actual, precision):
    return find_cause(piece.run(feeds), actual, precision=precision, piece=piece, feeds=feeds)


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x, axis=-1):
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def linear(f, w, keep):
    return keep(silu(keep(f["x"] @ w["w"] + w["b"])))


def unbiased(f, w, keep):
    return linear(f, {**w, "b": 0 * w["b"]}, keep)


def linear_piece():
    """A matrix product, its bias and an activation, as an engine fuses them."""
    weights = {"w": noise(32, 40) / np.sqrt(32), "b": 0.4 * noise(40, seed=1)}
    operators = (
        Operator("product", "MatMul", ("x", "w")),
        Operator("sum", "Add", ("product", "b")),
        Operator("y", "SiLU", ("sum",)),
    )
    mistakes = {
        ("offset", "without its bias 'b'", "sum"): unbiased,
        ("activation", "identity instead of silu", "y"): lambda f, w, _: f["x"] @ w["w"] + w["b"],
    }
    return NumpyPiece(linear, weights, ("x",), operators, mistakes)


def attention(axis):
    def compute(f, w, keep):
        return keep(softmax(keep(keep(f["q"] @ f["k"].swapaxes(-1, -2)) * w["s"]), axis))

    return compute


def attention_piece():
    operators = (
        Operator("product", "MatMul", ("q", "k")),
        Operator("scaled", "Mul", ("product", "s")),
        Operator("y", "Softmax", ("scaled",)),
    )
    mistakes = {
        ("layout", "softmax along axis 2 instead of 3", "y"): attention(2),
        ("input", "operands of 'product' swapped", "product"): lambda f, w, k: attention(-1)(
            {"q": f["k"], "k": f["q"]}, w, k
        ),
    }
    weights = {"s": np.array(0.25)}
    return NumpyPiece(attention(-1), weights, ("q", "k"), operators, mistakes)


def normalization(epsilon):
    def compute(f, w, keep):
        x = keep(f["x"] + f["r"])
        middle = x - x.mean(axis=-1, keepdims=True)
        scaled = middle / np.sqrt((middle**2).mean(axis=-1, keepdims=True) + epsilon)
        return keep(scaled * w["g"] + w["b"])

    return compute


def normalization_piece():
    weights = {"g": 1 + 0.2 * noise(48, seed=3), "b": 0.3 * noise(48, seed=4)}
    operators = (
        Operator("sum", "Add", ("x", "r")),
        Operator("y", "LayerNormalization", ("sum", "g", "b")),
    )
    mistakes = {("approximation", "epsilon 0.001 instead of 1e-05", "y"): normalization(1e-3)}
    return NumpyPiece(normalization(1e-5), weights, ("x", "r"), operators, mistakes)


def normalization_feeds(precision, size=0.3):
    spread = size * np.exp(0.5 * noise(1, 65, 1, seed=2))
    return given(
        precision, x=noise(1, 65, 48, seed=5) * spread, r=noise(1, 65, 48, seed=6) * spread
    )


def convolution(f, w, keep):
    padded = np.pad(f["x"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return keep(np.einsum("bchwij,ocij->bohw", seen, w["w"], optimize=True))


def convolution_piece():
    weights = {"w": noise(12, 6, 3, 3) / np.sqrt(54)}
    return NumpyPiece(convolution, weights, ("x",), (Operator("y", "Conv", ("x", "w")),))


PIECES = {
    "linear": (linear_piece, lambda p: given(p, x=noise(2, 33, 32, seed=2))),
    "attention": (
        attention_piece,
        lambda p: given(p, q=6 * noise(1, 3, 24, 16, seed=1), k=noise(1, 3, 24, 16, seed=2)),
    ),
    "normalization": (normalization_piece, normalization_feeds),
    "convolution": (convolution_piece, lambda p: given(p, x=noise(1, 6, 24, 24, seed=2))),
}
EVERY_PIECE = pytest.mark.parametrize("name", PIECES)
