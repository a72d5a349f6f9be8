"""Where the operators before a tensor can be run again, their mistakes are made and recognised."""

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest

from shipway.compare.cause.finding import find_cause
from shipway.compare.cause.precision import explains_coarser, explains_precision
from shipway.compare.metrics import measure
from shipway.compare.verdict import judge, limits_for
from shipway.errors import EngineError, TensorError
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
