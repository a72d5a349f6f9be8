"""The ONNX file as golden: pure and teacher-forced values, whatever the engine shows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime import OnnxRuntimeEngine
from shipway.errors import ModelError, TensorError, UsageError
from shipway.export.name_map import NameMap, TensorEntry, ValueEntry, write_name_map
from shipway.export.onnx_file import read_specs
from shipway.export.portable import PortableModel
from shipway.graph.outline import read_outline
from shipway.tensors import random_feeds
from shipway.trace.golden import GoldenTensor
from shipway.trace.onnx_golden import OnnxGolden, open_onnx_golden

OPTIONS = EngineOptions(threads=1)
CHAIN = """
    <ir_version: 9, opset_import: ["": 20]>
    g (float[n, 4] x) => (float[n, 4] y, int64[2] size) <float[4] w = {1.0, -2.0, 3.0, 0.5}> {
        a = Mul(x, w)
        v = Exp(w)
        b = Tanh(a)
        c = Add(b, v)
        y = Mul(c, a)
        size = Shape(y)
    }"""
WEIGHT = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
FEEDS = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}

Opened = Callable[..., OnnxGolden]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    def open_(model: str | Path, name_map: Path | None = None, **limits: int) -> OnnxGolden:
        path = tmp_path / "a model.onnx"
        if isinstance(model, Path):
            path = model
        else:
            onnx.save(onnx.parser.parse_model(model), path)
        inputs, outputs = read_specs(read_outline(path))
        portable = PortableModel(inputs, outputs, onnx=path, name_map=name_map)
        return open_onnx_golden(portable, OPTIONS, **limits)

    return open_


def nothing(name: str) -> None:
    return None


def walked(golden: OnnxGolden, actual: Any = nothing, names=None) -> dict[str, GoldenTensor]:
    return {one.tap.name: one for one in golden.walk(FEEDS, actual, names)}


@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_a_plain_walk_computes_the_model(opened: Opened, limit: int) -> None:
    with opened(CHAIN, max_bytes=limit) as golden:
        found = walked(golden)
        assert list(found) == [tap.name for tap in golden.taps] == ["x", "a", "b", "c", "y", "size"]
    assert all(one.local is one.value for one in found.values())
    a = FEEDS["x"] * WEIGHT
    np.testing.assert_allclose(found["y"].value, (np.tanh(a) + np.exp(WEIGHT)) * a, rtol=1e-5)
    assert {name: one.tap.kind for name, one in found.items() if one.tap.kind != "value"} == {
        "x": "input",
        "y": "output",
        "size": "output",
    }


@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_local_values_are_computed_from_the_engine_s_own(opened: Opened, limit: int) -> None:
    a, b = FEEDS["x"] * WEIGHT, np.tanh(FEEDS["x"] * WEIGHT)
    engine = {"a": a + np.float32(0.5), "b": b, "size": np.array([3, 4])}
    with opened(CHAIN, max_bytes=limit) as golden:
        found = walked(golden, engine.get)
    np.testing.assert_allclose(found["a"].local, a, rtol=1e-6)
    np.testing.assert_allclose(found["b"].value, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["b"].local, np.tanh(engine["a"]), rtol=1e-5)
    # c reads the engine's b, although the golden would have computed another one from its a.
    np.testing.assert_allclose(found["c"].local, b + np.exp(WEIGHT), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found["y"].local, (b + np.exp(WEIGHT)) * engine["a"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(found["y"].value, (b + np.exp(WEIGHT)) * a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_an_engine_that_is_right_costs_no_second_run(opened: Opened, limit: int) -> None:
    with opened(CHAIN, max_bytes=limit) as golden:
        pure = {name: one.value for name, one in walked(golden).items()}
        found = walked(golden, pure.get)
    assert all(one.local is one.value for one in found.values())


def test_each_tensor_is_asked_for_once_and_inputs_are_not(opened: Opened) -> None:
    asked: list[str] = []

    def actual(name: str) -> None:
        asked.append(name)

    with opened(CHAIN, max_bytes=1) as golden:
        walked(golden, actual, ["y"])
    assert asked == ["a", "b", "c", "y", "size"]


def test_only_the_tensors_asked_for_are_yielded(opened: Opened) -> None:
    engine = {"a": FEEDS["x"] * WEIGHT + np.float32(0.5)}
    with opened(CHAIN) as golden:
        everything = walked(golden, engine.get)
        found = walked(golden, engine.get, ["y", "b"])
    assert list(found) == ["b", "y"]
    for name, one in found.items():
        np.testing.assert_array_equal(one.local, everything[name].local)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_lower_precision_of_the_engine_is_read(opened: Opened, dtype: Any) -> None:
    a = (FEEDS["x"] * WEIGHT).astype(dtype)
    with opened(CHAIN) as golden:
        found = walked(golden, {"a": a}.get)
    assert found["b"].local.dtype == np.float32
    np.testing.assert_allclose(found["b"].local, np.tanh(a.astype(np.float32)), rtol=1e-5)


def test_a_tensor_in_another_shape_is_read_in_the_golden_s(opened: Opened) -> None:
    engine = {"a": np.zeros((2, 6), np.float32)}
    with opened(CHAIN) as golden:
        found = walked(golden, engine.get)
    np.testing.assert_array_equal(found["b"].local, np.zeros((3, 4)))


def test_a_tensor_of_another_size_is_refused(opened: Opened) -> None:
    with opened(CHAIN) as golden, pytest.raises(TensorError, match=r"'b' has shape \[2, 2\]"):
        walked(golden, {"b": np.zeros((2, 2), np.float32)}.get)


def test_bad_feeds_and_names_are_refused_at_once(opened: Opened) -> None:
    with opened(CHAIN) as golden:
        with pytest.raises(TensorError, match="without a value: x"):
            golden.walk({}, nothing)
        with pytest.raises(UsageError, match="no tensor nonsense"):
            golden.walk(FEEDS, nothing, ["nonsense"])


def test_a_model_without_onnx_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\.onnx"):
        open_onnx_golden(PortableModel((), ()), OPTIONS)


def test_forced_values_reach_bodies(opened: Opened) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 20]>
    g (float[4] x) => (float[4] y) {
        a = Exp(x)
        yes = Constant <value = bool {1}> ()
        y = If (yes) <
            then_branch = t () => (float[4] p) { p = Neg(a) },
            else_branch = e () => (float[4] q) { q = Sqrt(a) }
        >
    }"""
    feeds = {"x": np.arange(4, dtype=np.float32)}
    engine = {"a": np.full(4, 7, np.float32)}
    with opened(text) as golden:
        found = {one.tap.name: one for one in golden.walk(feeds, engine.get)}
    np.testing.assert_array_equal(found["y"].local, np.full(4, -7, np.float32))


def test_constant_and_passed_outputs(opened: Opened) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 20]>
    g (float[2] x) => (float[2] x, float[2] w) <float[2] w = {1.0, 2.0}> { d = Exp(x) }"""
    feeds = {"x": np.zeros(2, np.float32)}
    with opened(text) as golden:
        found = {one.tap.name: one for one in golden.walk(feeds, nothing)}
        assert set(golden.outputs.values()) <= set(found)
    np.testing.assert_array_equal(found["w"].value, [1, 2])


def test_module_and_line_come_from_the_name_map(opened: Opened, tmp_path: Path) -> None:
    entry = TensorEntry(
        "mul", "aten.mul.Tensor", "float32", (3, 4), "kept", onnx="a", module="net.scale",
        module_class="Scale", source="net.py:18", code="return x * w",
    )  # fmt: skip
    known = NameMap("a model.onnx", None, "onnx", (entry,), (ValueEntry("b", "Tanh", fx="mul"),))
    write_name_map(known, tmp_path / "a model.map.json")
    with opened(CHAIN, tmp_path / "a model.map.json") as golden:
        taps = {tap.name: tap for tap in golden.taps}
        operators = golden.piece("b", ["x"]).operators
    assert (taps["a"].names, taps["a"].module) == (("a", "mul"), "net.scale")
    assert (taps["a"].module_class, taps["a"].source) == ("Scale", "net.py:18")
    assert (taps["b"].module, taps["b"].code) == ("net.scale", "return x * w")
    assert [(one.name, one.op, one.source) for one in operators] == [
        ("a", "Mul", "net.py:18"),
        ("b", "Tanh", "net.py:18"),
    ]


ASSETS: Mapping[str, dict[str, int]] = {
    "pt_image_classifier_cifar": {"batch_size": 1},
    "silero_vad_half": {"batch": 1, "sequence": 512},
    "gtcrn_simple": {},
    "yunet_n_dynamic": {"batch": 1, "height": 96, "width": 96},
}


@pytest.mark.parametrize("name", ASSETS)
def test_the_local_error_of_a_clean_engine_is_rounding(
    assets: Path, tmp_path: Path, name: str
) -> None:
    path = assets / "models" / f"{name}.onnx"
    inputs, outputs = read_specs(read_outline(path))
    model = PortableModel(inputs, outputs, onnx=path)
    engine = OnnxRuntimeEngine()
    artifact = engine.compile(model, OPTIONS, tmp_path)
    feeds = random_feeds(inputs, sizes=ASSETS[name])
    with engine.open_taps(artifact, OPTIONS) as taps:
        actual = {one.tap.names[0]: one.value for one in taps.stream(feeds) if one.tap.names}
    worst, compared = 0.0, 0
    with open_onnx_golden(model, OPTIONS) as golden:
        for one in golden.walk(feeds, actual.get):
            if one.tap.name in actual and one.local.dtype == np.float32 and one.local.size:
                scale = max(np.linalg.norm(one.local), 1e-3 * one.local.size**0.5)
                error = one.local - actual[one.tap.name].reshape(one.local.shape)
                worst = max(worst, np.linalg.norm(error) / scale)
                compared += 1
    assert compared >= 8
    assert worst < 1e-4


CUSTOM = """
    <ir_version: 9, opset_import: ["": 20, "shipway": 1]>
    g (float[1, 2, 6, 6] x) => (float[1, 3, 6, 6] y)
    <float[1, 18, 6, 6] offset, float[3, 2, 3, 3] weight> {
        a = Tanh(x)
        b = shipway.DeformConv2d <padding = [1, 1], stride = [1, 1], dilation = [1, 1]>
            (a, offset, weight)
        y = Relu(b)
    }"""


def test_a_custom_operator_is_its_kernel_there_and_its_body_here(tmp_path: Path) -> None:
    """Inside the body there are tensors that the engine does not have; those around it agree."""
    model = onnx.parser.parse_model(
        CUSTOM.replace("<float[1, 18, 6, 6] offset, float[3, 2, 3, 3] weight>", "")
    )
    generator = np.random.default_rng(0)
    for name, shape in (("offset", (1, 18, 6, 6)), ("weight", (3, 2, 3, 3))):
        array = generator.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path / "custom.onnx"
    onnx.save(model, path)
    inputs, outputs = read_specs(read_outline(path))
    portable = PortableModel(inputs, outputs, onnx=path)
    engine = OnnxRuntimeEngine()
    lowered = engine.lower(portable, tmp_path / "lowered")
    artifact = engine.compile(lowered, OPTIONS, tmp_path / "compiled")
    feeds = random_feeds(inputs)
    with engine.open_taps(artifact, OPTIONS) as taps:
        actual = {one.tap.name: one.value for one in taps.stream(feeds)}
        assert taps.check is not None
        assert taps.check.identical
    with open_onnx_golden(portable, OPTIONS) as golden:
        found = {one.tap.name: one for one in golden.walk(feeds, actual.get)}
    assert "DeformConv2d" not in {one.tap.op for one in found.values()}
    for name in ("a", "b", "y"):
        np.testing.assert_allclose(found[name].local, actual[name], rtol=1e-4, atol=1e-5)
