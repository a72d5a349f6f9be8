"""A piece of an ONNX golden: run in any rounding, varied by the usual mistakes, saved alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from shipway.compare.causes import CAUSES
from shipway.engines.base import EngineOptions
from shipway.errors import EngineError, TensorError, UsageError
from shipway.export.onnx_file import read_specs
from shipway.export.portable import PortableModel
from shipway.graph.outline import read_outline
from shipway.trace.onnx_golden import OnnxGolden, open_onnx_golden

OPTIONS = EngineOptions(threads=1)
X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
Opened = Callable[[str], OnnxGolden]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    def open_(text: str) -> OnnxGolden:
        path = tmp_path / "model.onnx"
        onnx.save(onnx.parser.parse_model(text), path)
        inputs, outputs = read_specs(read_outline(path))
        return open_onnx_golden(PortableModel(inputs, outputs, onnx=path), OPTIONS)

    return open_


def graph(body: str, weights: str = "") -> str:
    return f"""
    <ir_version: 10, opset_import: ["": 20]>
    g (float[2, 3, 4] x) => (float[a, b, c] y) {f"<{weights}>" if weights else ""} {{ {body} }}"""


CHAIN = graph("a = Exp(x)  b = Tanh(a)  c = Mul(b, x)  y = Softmax <axis = 1> (c)")


def test_it_lies_between_the_starts_and_the_end(opened: Opened) -> None:
    with opened(CHAIN) as golden:
        piece = golden.piece("c", ["a", "y", "unrelated"])
        whole = golden.piece("y", [])
        last = golden.piece("y", ["y", "c"])
    assert set(piece.inputs) == {"a", "x"}
    assert [one.name for one in piece.operators] == ["b", "c"]
    assert piece.operators[-1].inputs == ("b", "x")
    assert (whole.inputs, len(whole.operators)) == (("x",), 4)
    assert (last.inputs, [one.op for one in last.operators]) == (("c",), ["Softmax"])


def test_double_precision_does_not_follow_a_reference_that_errs(opened: Opened) -> None:
    """onnx.reference adds the first group's bias to all; ONNX Runtime has no double kernel."""
    body = "y = ConvTranspose <group = 3> (x, w, bias)"
    weights = "float[3, 1, 2] w = {1, 2, 3, 4, 5, 6}, float[3] bias = {10, 20, 30}"
    with opened(graph(body, weights)) as golden:
        piece = golden.piece("y", [])
        single, double = piece.run({"x": X}), piece.run({"x": X}, "f64")
    np.testing.assert_allclose(double, single, rtol=1e-5)


def test_what_no_operator_computes_has_no_piece(opened: Opened) -> None:
    with opened(CHAIN) as golden, pytest.raises(UsageError, match="computes 'x'"):
        golden.piece("x", [])


def test_roundings(opened: Opened) -> None:
    with opened(CHAIN) as golden:
        piece = golden.piece("c", ["a"])
    a = np.exp(X.astype(np.float64))
    exact = np.tanh(a) * X.astype(np.float64)
    feeds = {"a": a.astype(np.float32), "x": X}
    assert np.abs(piece.run(feeds) - exact).max() < 1e-6
    double = piece.run({"a": a.astype(np.float32), "x": X}, "f64")
    assert double.dtype == np.float64
    expected = np.tanh(a.astype(np.float32).astype(np.float64)) * X.astype(np.float64)
    assert np.abs(double - expected).max() < 1e-14
    for name, dtype in (("bf16", ml_dtypes.bfloat16), ("f16", np.float16)):

        def r(value: Any, dtype: Any = dtype) -> Any:
            return np.asarray(value).astype(dtype).astype(np.float32)

        step = r(r(np.tanh(r(feeds["a"]))) * r(X))
        np.testing.assert_allclose(piece.run(feeds, name), step, rtol=2**-6)
        assert (
            piece.run(feeds, name).astype(dtype).astype(np.float32) == piece.run(feeds, name)
        ).all()
    with pytest.raises(UsageError, match="f8"):
        piece.run(feeds, "f8")
    with pytest.raises(TensorError, match="needs x"):
        piece.run({"a": X})


def test_double_precision_without_a_kernel_falls_back(opened: Opened) -> None:
    """ONNX Runtime has no convolution in double precision; onnx.reference has."""
    text = graph("y = Conv <pads = [1, 1]> (x, w)", "float[3, 3, 3] w")
    text = text.replace("float[3, 3, 3] w", f"float[3, 3, 3] w = {{{', '.join(['0.1'] * 27)}}}")
    with opened(text) as golden:
        piece = golden.piece("y", [])
    single, double = piece.run({"x": X}), piece.run({"x": X}, "f64")
    assert double.dtype == np.float64
    assert 0 < np.abs(single - double).max() < 1e-6


def test_low_precision_of_the_engine_is_read(opened: Opened) -> None:
    with opened(CHAIN) as golden:
        piece = golden.piece("c", ["a"])
    a = np.exp(X).astype(ml_dtypes.bfloat16)
    found = piece.run({"a": a, "x": X})
    np.testing.assert_allclose(found, np.tanh(a.astype(np.float32)) * X, rtol=1e-5)


WEIGHTS = {
    "scale": "float[4] s = {1.0, 2.0, 3.0, 4.0}, float[4] o = {0.5, 0.5, -1.0, 2.0}",
    "square": "float[4, 4] w = {" + ", ".join(str(float(i % 7)) for i in range(16)) + "}",
    "epsilon": "float e = {0.00001}",
    "six": "float low = {0.0}, float high = {0.7}",
}


def layer_norm(x: Any, epsilon: float) -> Any:
    x = x.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def softmax(x: Any, axis: int) -> Any:
    powers = np.exp(x.astype(np.float64))
    return powers / powers.sum(axis, keepdims=True)


SCALE, OFFSET = np.array([1, 2, 3, 4.0]), np.array([0.5, 0.5, -1, 2])
SQUARE = np.array([float(i % 7) for i in range(16)]).reshape(4, 4)
TANH_GELU = 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))

MISTAKES = {
    "softmax axis": (graph("y = Softmax <axis = 1> (x)"), "layout", softmax(X, 2)),
    "layer norm epsilon": (
        graph("y = LayerNormalization <epsilon = 0.00001> (x, s, o)", WEIGHTS["scale"]),
        "approximation",
        layer_norm(X, 0.05) * SCALE + OFFSET,
    ),
    "layer norm bias": (
        graph("y = LayerNormalization <epsilon = 0.00001> (x, s, o)", WEIGHTS["scale"]),
        "offset",
        layer_norm(X, 1e-5) * SCALE,
    ),
    "written-out epsilon": (
        graph("a = Abs(x)  b = Add(a, e)  y = Sqrt(b)", WEIGHTS["epsilon"]),
        "approximation",
        np.sqrt(np.abs(X) + 1e-2),
    ),
    "gelu": (graph("y = Gelu(x)"), "approximation", TANH_GELU),
    "gelu by erf": (
        graph(
            "a = Div(x, r)  b = Erf(a)  c = Add(b, one)  d = Mul(x, c)  y = Mul(d, half)",
            "float r = {1.4142135}, float one = {1.0}, float half = {0.5}",
        ),
        "approximation",
        TANH_GELU,
    ),
    "transposition": (
        graph("y = Transpose <perm = [0, 2, 1]> (x)"),
        "layout",
        X.reshape(2, 4, 3),
    ),
    "operands": (graph("a = Exp(x)  y = Sub(a, x)"), "input", X - np.exp(X)),
    "concatenation": (
        graph("a = Exp(x)  y = Concat <axis = 1> (a, x)"),
        "input",
        np.concatenate([X, np.exp(X)], 1),
    ),
    "no activation": (graph("y = Relu(x)"), "activation", X),
    "another slope": (graph("y = Relu(x)"), "activation", np.where(X > 0, X, 0.01 * X)),
    "cut off": (graph("y = Relu(x)"), "saturation", np.clip(X, 0, 1)),
    "no bounds": (graph("y = Clip(x, low, high)", WEIGHTS["six"]), "saturation", X),
    "weight": (graph("y = MatMul(x, w)", WEIGHTS["square"]), "input", X @ SQUARE.T),
    "scale": (
        graph("y = Mul(x, k)", "float k = {0.125}"),
        "gain",
        X,
    ),
    "bias": (graph("y = Add(x, o)", WEIGHTS["scale"].split(", float[4] o")[0].replace(" s ", " o ")), "offset", X),
    "branches": (
        graph("z = Tanh(x)  k = Less(x, z)  y = Where(k, x, z)"),
        "input",
        np.where(np.tanh(X) > X, np.tanh(X), X),
    ),
    "reading order": (
        graph("y = Reshape(x, to)", "int64[3] to = {4, 3, 2}"),
        "layout",
        np.swapaxes(X, 1, 2).reshape(4, 3, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_among_the_variants(opened: Opened, name: str) -> None:
    text, cause, expected = MISTAKES[name]
    with opened(text) as golden:
        piece = golden.piece("y", [])
    right = piece.run({"x": X})
    hits = []
    for variant in piece.variants():
        assert variant.cause in CAUSES
        assert variant.operator in {one.name for one in piece.operators}
        try:
            found = variant.run({"x": X})
        except EngineError:
            continue
        if found.shape == expected.shape and np.allclose(found, expected, rtol=1e-4, atol=1e-5):
            hits.append(variant)
    assert not np.allclose(right, expected, rtol=1e-4, atol=1e-5)
    assert [one.cause for one in hits] == [cause], [one.title for one in hits]
    np.testing.assert_array_equal(piece.run({"x": X}), right)


def test_most_variants_run(opened: Opened) -> None:
    """A variant that cannot be run tells nothing: few may be."""
    for text, _, _ in MISTAKES.values():
        with opened(text) as golden:
            piece = golden.piece("y", [])
        failed, count = [], 0
        for variant in piece.variants():
            count += 1
            try:
                variant.run({"x": X})
            except EngineError:
                failed.append(variant.title)
        assert len(failed) <= count / 2, failed


def test_it_is_saved_as_a_model_of_its_own(opened: Opened, tmp_path: Path) -> None:
    weights = "float[4, 400] w = {" + ", ".join(["0.25"] * 1600) + "}"
    with opened(graph("a = Exp(x)  b = MatMul(a, w)  y = Relu(b)", weights)) as golden:
        piece = golden.piece("y", ["a"])
        path = piece.save(tmp_path / "replay")
    assert path.name == "piece.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {"a": X})
    np.testing.assert_array_equal(found, piece.run({"a": X}))
