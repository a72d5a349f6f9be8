"""Files that Polygraphy itself wrote."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import pytest

from shipway.errors import TensorError
from shipway.trace.importing.registry import detect_format, import_dump

onnxrt = pytest.importorskip("polygraphy.backend.onnxrt")
comparator = pytest.importorskip("polygraphy.comparator")


@pytest.fixture
def model() -> bytes:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[2, 3] x) => (float[2, 3] hidden, float16[2, 3] half, bool[2, 3] positive) {
            hidden = Relu(x)
            half = Cast<to = 10>(x)
            zero = Constant<value = float {0}>()
            positive = Greater(x, zero)
        }
    """)
    return proto.SerializeToString()


@pytest.fixture
def results(model):
    x = np.array([[1, -2, 3], [np.nan, 0, -1]], np.float32)
    runner = onnxrt.OnnxrtRunner(
        onnxrt.SessionFromOnnx(model, providers=["CPUExecutionProvider"]), name="ort"
    )
    return comparator.Comparator.run([runner], data_loader=[{"x": x}])


def test_outputs_that_polygraphy_saved(results, tmp_path):
    path = tmp_path / "outputs.json"
    results.save(str(path))
    assert detect_format(path) == "polygraphy"
    trace = import_dump(path, None)
    assert trace.header.engine == "Polygraphy ort"
    (_, iterations) = results[0]
    assert [record.name for record in trace.records] == ["hidden", "half", "positive"]
    for name, value in iterations[0].items():
        found = trace.read(name)
        assert found.dtype == np.asarray(value).dtype
        assert found.tobytes() == np.asarray(value).tobytes()
        assert trace.record(name).tap.names == (name,)


def test_several_iterations_and_runners(model, tmp_path):
    x = np.ones((2, 3), np.float32)
    runner = onnxrt.OnnxrtRunner(
        onnxrt.SessionFromOnnx(model, providers=["CPUExecutionProvider"]), name="ort"
    )
    both = comparator.Comparator.run([runner], data_loader=[{"x": x}, {"x": x}])
    both.save(str(tmp_path / "both.json"))
    with pytest.raises(TensorError, match="2 sets of tensors"):
        import_dump(tmp_path / "both.json", None)


def test_a_folder_of_iterations(results, tmp_path):
    for number in (1, 2, 10):
        results.save(str(tmp_path / f"outputs_{number}.json"))
    trace = import_dump(tmp_path, None)
    assert len(trace.records) == 3
    assert trace.header.left_out == 6
    assert trace.header.effective["iterations"] == "the first of 3 was read"


def test_a_file_that_was_cut_off(results, tmp_path):
    path = tmp_path / "outputs.json"
    results.save(str(path))
    path.write_text(path.read_text()[:-30])
    with pytest.raises(TensorError, match="Cannot read"):
        import_dump(path, None)


def test_a_type_that_is_not_shipways(results, tmp_path):
    path = tmp_path / "outputs.json"
    results.save(str(path))
    import base64
    import io

    stream = io.BytesIO()
    np.save(stream, np.ones(2, np.complex64))
    text = base64.b64encode(stream.getvalue()).decode()
    feed = {"z": {"array": text, "polygraphy_class": "ndarray"}}
    path.write_text(json.dumps([feed]))
    with pytest.raises(TensorError, match="complex64"):
        import_dump(path, None)
