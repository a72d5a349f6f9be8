"""What is particular to ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime import OnnxRuntimeEngine
from shipway.errors import EngineError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

OPTIONS = EngineOptions(threads=1)
X = TensorSpec("x", "float32", ("n", 2))
Y = TensorSpec("y", "float32", ("n", 2))
FEEDS = {"x": np.array([[-1, 2], [3, -4]], np.float32)}


def portable(folder, body, imports='"": 17', ir=8, inputs=(X,), outputs=(Y,)):
    """A model of one line of ONNX text between x and y."""
    declared = ", ".join(f"float[n,2] {spec.name}" for spec in inputs)
    text = f"<ir_version: {ir}, opset_import: [{imports}]> g ({declared}) => (float[n,2] y) {body}"
    onnx.save(parser.parse_model(text), folder / "m.onnx")
    return PortableModel(inputs, outputs, onnx=folder / "m.onnx")


@pytest.fixture
def engine():
    return OnnxRuntimeEngine()


@pytest.mark.parametrize(
    ("body", "imports", "ir", "said"),
    [
        ("{ y = my.domain.Op(x) }", '"": 17, "my.domain": 1', 8, "custom operator my.domain::Op"),
        ("{ y = Foo(x) }", '"": 17', 8, "No kernel for operator Foo"),
        ("{ y = Relu(x) }", '"": 99', 8, "has opset 99 of ai.onnx; .* supports up to"),
        ("{ y = Relu(x) }", '"": 17', 99, "Unsupported model IR version: 99"),
        ("{ y = Add(x, z) z = Relu(y) }", '"": 17', 8, "not acyclic"),
    ],
    ids=["custom operator", "unknown operator", "opset", "ir version", "cycle"],
)
def test_what_it_will_not_take_is_found_before_and_refused(
    engine, tmp_path, body, imports, ir, said
):
    """The pre-flight and compile tell the same in one line, without the vendor's source paths."""
    model = portable(tmp_path, body, imports, ir)
    (finding,) = engine.check(model, OPTIONS)
    assert finding.severity == "error"
    with pytest.raises(EngineError, match=said) as caught:
        engine.compile(model, OPTIONS, tmp_path / "out")
    for text in (finding.message, str(caught.value)):
        assert "\n" not in text
        assert "onnxruntime_src" not in text
        assert "ONNXRuntimeError" not in text
    assert not (tmp_path / "out").exists()


def test_optimisation_can_be_switched_off(engine, tmp_path):
    """effective tells, and ONNX Runtime's own settings agree."""
    import onnxruntime as ort

    artifact = engine.compile(portable(tmp_path, "{ y = Relu(x) }"), OPTIONS, tmp_path / "out")
    with engine.load(artifact, EngineOptions(threads=1, optimize=False)) as session:
        level = session._session.get_session_options().graph_optimization_level
        assert level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        assert session.effective["optimization"] == "off"
    with engine.load(artifact, OPTIONS) as session:
        assert session.effective["optimization"] == "all"


def test_a_provider_that_cannot_run_the_model_does_not_pass_it_to_the_cpu(engine, tmp_path):
    """Azure's provider is in every wheel and runs no Relu: an error, not a session on the CPU."""
    if "Azure" not in {device.name for device in engine.probe().devices}:
        pytest.skip("this build of ONNX Runtime has no second provider")
    model = portable(tmp_path, "{ y = Relu(x) }")
    with pytest.raises(EngineError, match="CPU"):
        engine.compile(model, EngineOptions(threads=1, device="Azure"), tmp_path / "out")


def test_an_extra_option_is_a_session_entry_and_shows(engine, tmp_path):
    """It reaches ONNX Runtime and effective."""
    options = EngineOptions(threads=1, extra={"session.intra_op.allow_spinning": "0"})
    artifact = engine.compile(portable(tmp_path, "{ y = Relu(x) }"), options, tmp_path / "out")
    with engine.load(artifact, options) as session:
        entry = session._session.get_session_options().get_session_config_entry(*options.extra)
        assert entry == "0"
        assert session.effective["session.intra_op.allow_spinning"] == "0"


def test_an_input_that_decides_nothing_is_still_fed(engine, tmp_path):
    """Unused inputs stay part of the interface."""
    dead = TensorSpec("dead", "float32", ("n", 2))
    model = portable(tmp_path, "{ y = Relu(x) }", inputs=(X, dead))
    with engine.load(engine.compile(model, OPTIONS, tmp_path / "out"), OPTIONS) as session:
        result = session.run({**FEEDS, "dead": FEEDS["x"]})
    np.testing.assert_array_equal(result["y"], [[0, 2], [3, 0]])


def test_a_failure_while_running_is_one_line(engine, tmp_path):
    """Two symbols that must be equal and are not: ONNX Runtime's reason, without its source path."""
    other = TensorSpec("z", "float32", ("m", 2))
    model = portable(tmp_path, "{ y = Add(x, z) }", inputs=(X, other))
    session = engine.load(engine.compile(model, OPTIONS, tmp_path / "out"), OPTIONS)
    with session, pytest.raises(EngineError, match="broadcast") as caught:
        session.run({**FEEDS, "z": np.ones((3, 2), np.float32)})
    assert "onnxruntime_src" not in str(caught.value)


def test_precision_names_the_dtype_of_the_weights(engine, tmp_path):
    """A float16 model computes in float16: effective says so, whatever the option is called."""
    weight = numpy_helper.from_array(np.ones((2, 2), np.float16), "w")
    specs = [TensorSpec(name, "float16", ("n", 2)) for name in "xy"]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["n", 2]) for n in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "half.onnx")
    model = PortableModel((specs[0],), (specs[1],), onnx=tmp_path / "half.onnx")
    with engine.load(engine.compile(model, OPTIONS, tmp_path / "out"), OPTIONS) as session:
        assert session.effective["precision"] == "f16"
        assert session.run({"x": np.ones((1, 2), np.float16)})["y"].dtype == np.float16


def test_external_weights_are_part_of_the_artifact(engine, tmp_path):
    """The data file is a companion, and the session reads the copy: the original may go."""
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32) * 3, "w")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = PortableModel((X,), (Y,), onnx=path)
    artifact = engine.compile(model, OPTIONS, tmp_path / "out")
    assert artifact.companions == ("m.data",)
    path.unlink()
    (tmp_path / "m.data").unlink()
    with engine.load(artifact, OPTIONS) as session:
        np.testing.assert_array_equal(session.run(FEEDS)["y"], FEEDS["x"] * 3)
