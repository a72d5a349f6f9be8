"""What is particular to OpenVINO."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import parser

from shipway.engines.base import EngineOptions
from shipway.engines.openvino import OpenVinoEngine
from shipway.environment import usable_cores
from shipway.errors import EngineError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

pytest.importorskip("openvino")

OPTIONS = EngineOptions(threads=1)
X = TensorSpec("x", "float32", ("n", 2))
Y = TensorSpec("y", "float32", ("n", 2))
FEEDS = {"x": np.array([[-1, 2], [3, -4]], np.float32)}


def portable(folder, text, inputs=(X,), outputs=(Y,)):
    """A model written as ONNX text."""
    folder.mkdir(exist_ok=True)
    onnx.save(parser.parse_model(text), folder / "m.onnx")
    return PortableModel(inputs, outputs, onnx=folder / "m.onnx")


def plain(body, imports='"": 17'):
    return f"<ir_version: 8, opset_import: [{imports}]> g (float[n,2] x) => (float[n,2] y) {body}"


@pytest.fixture
def engine():
    return OpenVinoEngine()


def run(engine, model, folder, feeds):
    with engine.load(engine.compile(model, OPTIONS, folder), OPTIONS) as session:
        return session.run(feeds)


def test_local_functions_are_inlined(engine, tmp_path):
    """OpenVINO's frontend does not expand them; lower does, and compile calls it where nobody has."""
    text = plain("{ y = my.Twice(x) }", '"": 17, "my": 1')
    text += '<domain: "my", opset_import: ["": 17]> Twice (v) => (u) { u = Add(v, v) }'
    model = portable(tmp_path, text)
    lowered = engine.lower(model, tmp_path / "lowered")
    assert lowered.onnx == tmp_path / "lowered" / "m.onnx"
    assert not onnx.load(lowered.onnx).functions
    for number, form in enumerate((model, lowered)):
        result = run(engine, form, tmp_path / str(number), FEEDS)
        np.testing.assert_array_equal(result["y"], FEEDS["x"] * 2)


def test_a_model_without_functions_is_lowered_to_itself(engine, tmp_path):
    """No file is written."""
    model = portable(tmp_path, plain("{ y = Neg(x) }"))
    assert engine.lower(model, tmp_path / "lowered") is model
    assert not (tmp_path / "lowered").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (plain("{ y = my.domain.Op(x) }", '"": 17, "my.domain": 1'), "operator my.domain::Op in"),
        (plain("{ y = Foo(x) }"), "operator Foo-17 in"),
        (
            plain("<float[3,3] w = {1,2,3,4,5,6,7,8,9}> { y = MatMul(x, w) }"),
            "Incompatible MatMul matrix dimension",
        ),
    ],
    ids=["custom operator", "unknown operator", "shapes"],
)
def test_what_it_will_not_take_is_found_before_and_refused(engine, tmp_path, text, said):
    """The pre-flight and compile tell the same in one line, without the vendor's source paths."""
    model = portable(tmp_path, text)
    (finding,) = engine.check(model, OPTIONS)
    assert finding.severity == "error"
    with pytest.raises(EngineError, match=said) as caught:
        engine.compile(model, OPTIONS, tmp_path / "out")
    for line in (finding.message, str(caught.value)):
        assert "\n" not in line
        assert "src/" not in line
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_stay_float32_in_the_file(engine, tmp_path):
    """OpenVINO's own save_model would store them as float16."""
    text = plain("<float[2] w = {1.0000001, 3.14159274}> { y = Mul(x, w) }")
    result = run(engine, portable(tmp_path, text), tmp_path / "out", {"x": np.ones((1, 2), "f")})
    np.testing.assert_array_equal(result["y"][0], np.array([1.0000001, 3.14159274], np.float32))


def test_integers_beyond_int32_are_refused(engine, tmp_path):
    """OpenVINO computes int64 as int32 and wraps around without a word; the pre-flight warns."""
    spec, out = TensorSpec("x", "int64", ("n",)), TensorSpec("y", "int64", ("n",))
    text = '<ir_version: 8, opset_import: ["": 17]> g (int64[n] x) => (int64[n] y) { y = Neg(x) }'
    model = portable(tmp_path, text, (spec,), (out,))
    assert [f.severity for f in engine.check(model, OPTIONS)] == ["warning"]
    with engine.load(engine.compile(model, OPTIONS, tmp_path / "out"), OPTIONS) as session:
        assert session.run({"x": np.array([2**31 - 1])})["y"] == 1 - 2**31
        assert session.run({"x": np.zeros(0, np.int64)})["y"].shape == (0,)
        for wide in (2**31, -(2**31) - 1):
            with pytest.raises(EngineError, match="'x' has values beyond"):
                session.run({"x": np.array([wide])})


def test_its_relu_swallows_nan(engine, tmp_path):
    """The one known difference in values, told in the module's docstring: mend that if this fails."""
    model = portable(tmp_path, plain("{ y = Relu(x) }"))
    result = run(engine, model, tmp_path / "out", {"x": np.array([[np.nan, np.inf]], np.float32)})
    np.testing.assert_array_equal(result["y"], [[0, np.inf]])


def test_inputs_that_do_not_broadcast_are_no_empty_answer(engine, tmp_path):
    """With one thread, OpenVINO's own infer() answers [0, 2] and no error."""
    other = TensorSpec("z", "float32", ("m", 2))
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,2] x, float[m,2] z) => (float[n,2] y) '
        "{ y = Add(x, z) }"
    )
    model = portable(tmp_path, text, (X, other))
    with pytest.raises(
        EngineError, match=r"node with name 'y' Check 'input_shape\[j\] == 1' failed\.$"
    ):
        run(engine, model, tmp_path / "out", {**FEEDS, "z": np.ones((3, 2), np.float32)})


def test_more_threads_than_cores_are_refused(engine, tmp_path):
    """OpenVINO would grant fewer in silence."""
    artifact = engine.compile(portable(tmp_path, plain("{ y = Neg(x) }")), OPTIONS, tmp_path / "o")
    wanted = (os.cpu_count() or usable_cores()) * 4
    with pytest.raises(EngineError, match=f"INFERENCE_NUM_THREADS={wanted}; it granted"):
        engine.load(artifact, EngineOptions(threads=wanted))


def test_an_extra_option_is_a_property_and_shows(engine, tmp_path):
    """It reaches OpenVINO and is read back from it."""
    options = EngineOptions(threads=1, extra={"ENABLE_CPU_PINNING": "NO"})
    artifact = engine.compile(portable(tmp_path, plain("{ y = Neg(x) }")), options, tmp_path / "o")
    with engine.load(artifact, options) as session:
        assert session.effective["ENABLE_CPU_PINNING"] == "False"
        assert session.effective["pinning"] == "False"


def test_telemetry_stays_silent(tmp_path):
    """Importing openvino would write an id to the home folder and send it: through us it does neither."""
    script = (
        "import sys\n"
        "from shipway.engines.openvino import OpenVinoEngine\n"
        "assert OpenVinoEngine().probe().installed\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOME": str(tmp_path), "CI": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
