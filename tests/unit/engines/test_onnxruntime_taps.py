"""Every tensor of the graph ONNX Runtime optimised is read, and nothing it computes changes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipway.artifact import Artifact
from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime import OnnxRuntimeEngine
from shipway.engines.onnxruntime.segments import SegmentRunner
from shipway.engines.tapping import Tappable, TappedTensor, TapSession
from shipway.errors import EngineError, ModelError, TensorError, UsageError
from shipway.export.onnx_file import read_specs
from shipway.export.portable import PortableModel
from shipway.graph.outline import read_outline
from shipway.tensors import TensorSpec, bind_dims, random_feeds

ENGINE = OnnxRuntimeEngine()
OPTIONS = EngineOptions(threads=1)

TEXTS = {
    "two branches and an unused node": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z) {
            a = Relu(x)  b = Exp(a)  c = Neg(a)  y = Add(b, c)  z = Mul(b, c)  d = Abs(c)
        }""",
    "integers, booleans, a scalar": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[3, 4] x) => (int64[k, 2] places, float s, bool[3, 4] positive) {
            zero = Constant <value = float {0.0}> ()
            positive = Greater(x, zero)
            found = NonZero(positive)
            places = Transpose <perm = [1, 0]> (found)
            s = ReduceSum <keepdims = 0> (x)
        }""",
    "an empty tensor": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[n, 3] x) => (float[n, 3] y) { a = Relu(x)  y = Neg(a) }""",
    "an output that is an input": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[2] x) => (float[2] x, float[2] y) { y = Exp(x) }""",
    "an output that is constant": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[2] x) => (float[2] y, float[2] c) <float[2] w = {1.0, 2.0}> {
            y = Exp(x)  e = Exp(w)  c = Neg(e)
        }""",
    "bodies": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[4] x, bool choice) => (float[4] y) {
            a = Exp(x)
            b = If (choice) <
                then_branch = t () => (float[4] p) { inner = Neg(a) p = Abs(inner) },
                else_branch = e () => (float[4] q) { q = Sqrt(a) }
            >
            y = Relu(b)
        }""",
    "a sequence": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float[4, 3] x) => (float[4, 3] y) {
            a = Exp(x)
            parts = SplitToSequence <axis = 0> (a)
            joined = ConcatFromSequence <axis = 0> (parts)
            y = Neg(joined)
        }""",
    "half precision": """
        <ir_version: 9, opset_import: ["": 20]>
        g (float16[2, 4] x) => (float16[2, 4] y) { a = Exp(x)  b = Tanh(a)  y = Neg(b) }""",
}


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[onnx.ModelProto | Path], Artifact]:
    def compile_(model: onnx.ModelProto | Path) -> Artifact:
        path = model if isinstance(model, Path) else tmp_path / "a model.onnx"
        if not isinstance(model, Path):
            onnx.save(model, path)
        inputs, outputs = read_specs(read_outline(path))
        portable = PortableModel(inputs, outputs, onnx=path)
        return ENGINE.compile(portable, OPTIONS, tmp_path / "compiled")

    return compile_


def feeds_of(specs: tuple[TensorSpec, ...], rows: int = 3, **sizes: int) -> dict[str, Any]:
    return random_feeds(bind_dims(specs, sizes), sizes={"n": rows}, seed=3)


def read_all(taps: TapSession, feeds: Mapping[str, Any]) -> dict[str, TappedTensor]:
    return {one.tap.name: one for one in taps.stream(feeds)}


def hold_to_the_untapped(artifact: Artifact, feeds: Mapping[str, Any], **limits: int):
    """Read everything; outputs must be those of a plain session, and nothing may be left out."""
    with ENGINE.load(artifact, OPTIONS) as session:
        expected = session.run(feeds)
    with ENGINE.open_taps(artifact, OPTIONS, **limits) as taps:
        tensors = list(taps.stream(feeds))
        check, untapped = taps.check, taps.untapped
        assert [one.tap for one in tensors] == list(taps.taps)
        assert [one.tap.order for one in tensors] == list(range(len(tensors)))
        computed = set(taps._graph.maker)
    assert check is not None
    assert check.identical
    assert not check.perturbed
    found = {one.tap.name: one for one in tensors}
    for name, value in expected.items():
        assert found[name].value.dtype == value.dtype
        assert found[name].value.shape == value.shape
        assert found[name].value.tobytes() == value.tobytes()
    assert computed <= set(found) | set(untapped)
    return found, untapped


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_changes_and_nothing_is_left_out(compiled, name: str) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS[name]))
    rows = 0 if "empty" in name else 3
    feeds = feeds_of(artifact.inputs, rows)
    hold_to_the_untapped(artifact, feeds)
    hold_to_the_untapped(artifact, feeds, max_bytes=1)


def test_the_engine_is_tappable() -> None:
    assert isinstance(ENGINE, Tappable)


def test_inputs_come_first_and_outputs_are_told(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["two branches and an unused node"]))
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        kinds = {tap.name: tap.kind for tap in taps.taps}
    assert kinds["x"] == "input"
    assert {name for name, kind in kinds.items() if kind == "output"} == {"y", "z"}
    assert next(iter(kinds)) == "x"


def test_what_cannot_be_read_is_listed_with_the_reason(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["bodies"]))
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        assert "inside a body of If" in taps.untapped["inner"]
        assert "b" in {tap.name for tap in taps.taps}
    artifact = compiled(onnx.parser.parse_model(TEXTS["a sequence"]))
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        assert "sequence" in taps.untapped["parts"]


def test_few_tensors_and_little_memory(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["two branches and an unused node"]))
    feeds = feeds_of(artifact.inputs)
    everything, _ = hold_to_the_untapped(artifact, feeds, max_bytes=1)
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        some = {one.tap.name: one.value for one in taps.stream(feeds, ["z", "a"])}
        assert list(some) == ["a", "z"]
        assert taps.check is not None
    for name, value in some.items():
        np.testing.assert_array_equal(value, everything[name].value)


def test_what_is_handed_out_may_be_changed(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["two branches and an unused node"]))
    feeds = feeds_of(artifact.inputs)
    before = feeds["x"].copy()
    with ENGINE.open_taps(artifact, OPTIONS, max_bytes=1) as taps:
        for one in taps.stream(feeds):
            one.value[...] = 7
        assert taps.check is not None
        assert taps.check.identical
        np.testing.assert_array_equal(feeds["x"], before)


def test_check_is_none_until_a_run_is_finished(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["two branches and an unused node"]))
    feeds = feeds_of(artifact.inputs)
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        assert taps.check is None
        list(taps.stream(feeds))
        assert taps.check is not None
        next(taps.stream(feeds))
        assert taps.check is None


def test_wrong_feeds_and_names_are_refused_at_once(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["two branches and an unused node"]))
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        with pytest.raises(TensorError, match="without a value: x"):
            taps.stream({})
        with pytest.raises(TensorError, match="dtype float64"):
            taps.stream({"x": np.zeros((3, 4))})
        with pytest.raises(UsageError, match="no tensor nonsense"):
            taps.stream(feeds_of(artifact.inputs), ["nonsense"])
    with pytest.raises(EngineError, match="closed"):
        taps.stream(feeds_of(artifact.inputs))


def test_a_changed_artifact_is_refused(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(TEXTS["an empty tensor"]))
    artifact.path.write_bytes(artifact.path.read_bytes()[:-3])
    with pytest.raises(ModelError, match=r"changed|differs|truncated"):
        ENGINE.open_taps(artifact, OPTIONS)


def conv_net(channels: int = 12) -> onnx.ModelProto:
    """Convolutions with channels that fill no block, a sum, a pool, a concatenation."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["an input", "w0", "b0"], ["net/conv 0"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["net/conv 0"], ["net/relu 0"], "act"),
        helper.make_node("Conv", ["net/relu 0", "w1"], ["net/conv 1"], "second", pads=[1] * 4),
        helper.make_node("Add", ["net/conv 1", "net/relu 0"], ["net/sum"], "residual"),
        helper.make_node("Relu", ["net/sum"], ["net/relu 1"], "act 1"),
        helper.make_node("MaxPool", ["net/relu 1"], ["net/pool"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["net/pool", "w2"], ["net/conv 2"], "third"),
        helper.make_node("Flatten", ["net/conv 2"], ["an output"], "flat"),
    ]
    weights = [
        weight("w0", channels, 8, 3, 3),
        weight("b0", channels),
        weight("w1", channels, channels, 3, 3),
        weight("w2", 4, channels, 1, 1),
    ]
    ends = [
        helper.make_tensor_value_info("an input", 1, [1, 8, 10, 10]),
        helper.make_tensor_value_info("an output", 1, None),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def every_value(path: Path, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Compute every value of a model with nothing optimised, all at once."""
    import onnxruntime as ort

    model = onnx.load(path)
    have = {one.name for one in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in have:
                model.graph.output.add(name=name)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), settings)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def hold_to_the_unoptimised(
    found: Mapping[str, TappedTensor], golden: Mapping[str, Any], most: float
) -> int:
    """Every tensor must be close to the one whose name it claims; return how many were compared."""
    compared = 0
    for one in found.values():
        for name in one.tap.names:
            if name in golden and one.value.dtype.kind == "f":
                expected = golden[name].astype(np.float64)
                assert one.value.shape == expected.shape, one.tap
                # ONNX Runtime computes a sigmoid to 1e-7 of one, however small it is.
                scale = max(np.linalg.norm(expected), 1e-3 * expected.size**0.5)
                error = np.linalg.norm(one.value - expected) / scale
                assert error <= most, (one.tap, error)
                compared += 1
    return compared


@pytest.mark.parametrize("channels", [12, 32])
def test_blocked_tensors_come_out_as_the_model_has_them(
    compiled, tmp_path: Path, channels: int
) -> None:
    artifact = compiled(conv_net(channels))
    feeds = feeds_of(artifact.inputs)
    found, _ = hold_to_the_untapped(artifact, feeds)
    blocked = [one.tap for one in found.values() if one.tap.layout]
    if not blocked:
        pytest.skip("ONNX Runtime does not convolve in blocks on this processor")
    assert all(tap.layout.startswith("NCHWc") and tap.names for tap in blocked)
    names = {tap.names[0] for tap in blocked}
    assert {"net/relu 0", "net/relu 1", "net/conv 2"} <= names
    assert ("net/pool" in names) == (channels == 32)
    covered = next(tap.covers for tap in blocked if tap.names == ("net/relu 1",))
    assert covered == ("net/conv 1", "net/sum")
    golden = every_value(tmp_path / "a model.onnx", feeds)
    assert hold_to_the_unoptimised(found, golden, 1e-5) >= len(blocked)


MOVED = """
    <ir_version: 9, opset_import: ["": 20]>
    g (float[n, 8, 12] x) => (float[n, 2, 8, 2] y, int64[5] size)
    <int64[5] to = {-1, 8, 3, 2, 2}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2},
     int64[1] three = {3}> {
        parted = Reshape (x, to)
        turned = Transpose <perm = [2, 0, 3, 1, 4]> (parted)
        first = Slice (turned, zero, one, zero)
        second = Slice (turned, one, two, zero)
        third = Slice (turned, two, three, zero)
        q = Squeeze (first, zero)
        k = Squeeze (second, zero)
        v = Squeeze (third, zero)
        qk = Mul (q, k)
        e = Exp (qk)
        y = Mul (e, v)
        size = Shape (second)
    }"""


def test_what_onnx_runtime_transposed_comes_out_as_the_model_has_it(
    compiled, tmp_path: Path
) -> None:
    """It moves the transposition behind the slices, which then slice something else."""
    model = onnx.parser.parse_model(MOVED)
    for index, node in enumerate(model.graph.node):
        node.name = f"node {index}"
    artifact = compiled(model)
    feeds = feeds_of(artifact.inputs)
    found, _ = hold_to_the_untapped(artifact, feeds)
    turned = [one.tap for one in found.values() if one.tap.layout.startswith("transposed")]
    assert turned
    assert all(tap.names for tap in turned)
    golden = every_value(tmp_path / "a model.onnx", feeds)
    assert hold_to_the_unoptimised(found, golden, 1e-6) >= len(turned)


RANDOM = """
    <ir_version: 9, opset_import: ["": 20]>
    g (float[2, 3] x) => (float[2, 3] y) {
        noise = RandomNormalLike (x)
        a = Exp(x)
        y = Add(a, noise)
    }"""


def test_a_random_model_is_said_to_be_random(compiled) -> None:
    artifact = compiled(onnx.parser.parse_model(RANDOM))
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        read_all(taps, feeds_of(artifact.inputs))  # from the same seed: as it happens, alike
        read_all(taps, feeds_of(artifact.inputs))
        assert taps.check is not None
        assert not taps.check.identical
        assert "RandomNormalLike" in taps.check.perturbed["y"]


def test_the_tap_that_changes_the_result_is_found(
    compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 20]>
    g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z) {
        a = Exp(x)  b = Neg(a)  c = Tanh(b)  d = Sin(c)  y = Abs(d)  z = Cos(x)
    }"""
    artifact = compiled(onnx.parser.parse_model(text))
    plain = SegmentRunner.run

    def disturbed(self: SegmentRunner, segment, live, outputs, forced=None):
        values = plain(self, segment, live, outputs, forced)
        if "c" in outputs and "c" not in segment.keeps:
            # An engine that fuses Tanh and Sin unless somebody looks: "c" is read inside a segment.
            for name in {"d", "y"} & set(values):
                array = values[name].numpy() + np.float32(1)
                values[name] = type(values[name]).ortvalue_from_numpy(array)
        return values

    monkeypatch.setattr(SegmentRunner, "run", disturbed)
    with ENGINE.open_taps(artifact, OPTIONS) as taps:
        read_all(taps, feeds_of(artifact.inputs))
        assert taps.check is not None
        assert not taps.check.identical
        perturbed = taps.check.perturbed
    assert "y" in perturbed
    assert not {"a", "b", "z"} & set(perturbed)


ASSETS = {
    "pt_image_classifier_cifar": {"batch_size": 2},
    "yunet_n_dynamic": {"batch": 1, "height": 160, "width": 160},
    "ppocr_mobile_v2_cls": {
        "p2o.DynamicDimension.0": 1,
        "p2o.DynamicDimension.1": 48,
        "p2o.DynamicDimension.2": 96,
    },
    "silero_vad_half": {"batch": 1, "sequence": 512},
    "nnsplit_en": {"batch": 1, "length": 20},
    "person_detector": {},
    "squeezenet_fp16": {},
}


@pytest.mark.parametrize("name", ASSETS)
def test_real_models(compiled, assets: Path, name: str) -> None:
    source = assets / "models" / f"{name}.onnx"
    artifact = compiled(source)
    feeds = random_feeds(artifact.inputs, sizes=ASSETS[name])
    found, _ = hold_to_the_untapped(artifact, feeds)
    most = 5e-3 if "fp16" in name else 1e-3
    assert hold_to_the_unoptimised(found, every_value(source, feeds), most) > 3
