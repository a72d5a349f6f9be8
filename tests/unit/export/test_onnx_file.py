"""ONNX files: external weights, checks, specs, copies."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipway.errors import ExportError, ModelError
from shipway.export.onnx_file import (
    check_onnx,
    check_opset,
    copy_onnx,
    opset_of,
    read_graph,
    read_specs,
    save_onnx,
)

WEIGHTS = np.arange(2000, dtype=np.float32).reshape(40, 50)


def matmul():
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "n + 1", -1, 50])],
            [numpy_helper.from_array(WEIGHTS, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def test_small_weights_stay_inside(tmp_path):
    """One file is easier to carry about."""
    path = tmp_path / "m.onnx"
    assert save_onnx(ir.from_proto(matmul()), path, threshold_bytes=8001) == ()
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_large_weights_go_beside_the_model_under_a_name_without_a_folder(tmp_path):
    """From the threshold on; they come back equal."""
    path = tmp_path / "m.onnx"
    assert save_onnx(ir.from_proto(matmul()), path, threshold_bytes=8000) == ("m.onnx.data",)
    check_onnx(path)
    assert np.array_equal(numpy_helper.to_array(onnx.load(path).graph.initializer[0]), WEIGHTS)
    (entry,) = [
        item.value
        for item in read_graph(path).graph.initializer[0].external_data
        if item.key == "location"
    ]
    assert entry == "m.onnx.data"


def test_specs_say_what_the_file_says():
    """Names of dimensions are kept; expressions and negative sizes are free."""
    inputs, outputs = read_specs(matmul())
    assert [str(spec) for spec in (*inputs, *outputs)] == ["x:float32[n,40]", "y:float32[n,?,?,50]"]


def test_a_type_no_engine_takes_is_refused():
    """With the name of the value."""
    model = matmul()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelError, match="'x': ONNX element type 8"):
        read_specs(model)
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(ModelError, match="'x' is a sequence_type, not a tensor"):
        read_specs(model)


def test_another_opset_than_asked_for_is_an_error():
    """torch's exporter delivers 18 for 11 with only a log line."""
    assert opset_of(matmul()) == 17
    check_opset(matmul(), 17)
    with pytest.raises(
        ExportError, match="Opset 11 was asked for and the exporter wrote 17"
    ) as caught:
        check_opset(matmul(), 11)
    assert "--legacy" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"not a model", matmul().SerializeToString()[:200]])
def test_garbage_and_truncated_files_are_refused(data, tmp_path):
    """In one sentence, with the path."""
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.onnx is not a valid ONNX model") as caught:
        check_onnx(path)
    assert len(str(caught.value)) < 600


def test_an_absent_file_is_refused(tmp_path):
    """Not with a traceback."""
    with pytest.raises(ModelError, match=r"none\.onnx"):
        read_graph(tmp_path / "none.onnx")


def external(folder, location):
    path = folder / "big.onnx"
    onnx.save(matmul(), path, save_as_external_data=True, location="big.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_a_copy_takes_its_weights_along(tmp_path):
    """Also from a folder below, and independent of the source."""
    source = tmp_path / "in"
    (source / "weights").mkdir(parents=True)
    path = external(source, "weights/w.bin")
    (source / "big.bin").rename(source / "weights" / "w.bin")
    target = tmp_path / "out" / "m.onnx"
    target.parent.mkdir()
    assert copy_onnx(path, target) == ("weights/w.bin",)
    (source / "weights" / "w.bin").write_bytes(b"")
    assert np.array_equal(numpy_helper.to_array(onnx.load(target).graph.initializer[0]), WEIGHTS)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../w.bin", "outside its own folder"),
        ("/w.bin", "outside its own folder"),
        ("gone.bin", "is absent"),
    ],
)
def test_weights_out_of_reach_are_refused(location, message, tmp_path):
    """A model from a stranger must not read or write elsewhere."""
    path = external(tmp_path, location)
    with pytest.raises(ModelError, match=message):
        copy_onnx(path, tmp_path / "m.onnx")


def test_weights_that_would_take_the_models_place_are_refused(tmp_path):
    """The file name is the model's."""
    path = external(tmp_path, "m.onnx")
    (tmp_path / "big.bin").rename(tmp_path / "m.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"file called m\.onnx"):
        copy_onnx(path, tmp_path / "out" / "m.onnx")
