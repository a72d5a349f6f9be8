"""ONNX files: whole ones are read, cut ones, changed ones and garbage are refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from shipway.errors import ModelError
from shipway.source.graphs import read_graph_file
from shipway.tensors import ANY, TensorSpec

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
main (float[n, 3] x, bool flag) => (float[n, 2] y)
<float[3, 2] w = {1, 2, 3, 4, 5, 6}>
{
    h = MatMul (x, w)
    y = If (flag) <
        then_branch = then_graph () => (float[n, 2] a) { a = Relu (h) },
        else_branch = else_graph () => (float[n, 2] b) { b = Neg (h) }
    >
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def changed(path: Path, change) -> Path:
    model = onnx.load(path)
    change(model)
    return save(model, path)


def test_inputs_and_files_of_a_whole_model(path: Path):
    specs, files = read_graph_file(path)
    assert specs == (TensorSpec("x", "float32", ("n", 3)), TensorSpec("flag", "bool", ()))
    assert files == (path,)


def test_external_data_is_among_the_files(tmp_path: Path):
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((3, 2), "float32"), "w"))
    onnx.save(
        model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert read_graph_file(tmp_path / "net.onnx")[1] == (tmp_path / "net.onnx", tmp_path / "w.bin")
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match="needs 24 bytes"):
        read_graph_file(tmp_path / "net.onnx")


def test_initializers_among_the_inputs_are_no_inputs(path: Path):
    """IR versions before 4 list every initializer as an input."""

    def list_it(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2]))

    assert [spec.name for spec in read_graph_file(changed(path, list_it))[0]] == ["x", "flag"]


def test_sizes_without_a_number_or_a_name_are_free(path: Path):
    def change(model: onnx.ModelProto) -> None:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        dims[0].Clear()
        dims[1].dim_value = -1
        model.graph.input[1].type.tensor_type.ClearField("shape")

    first, second = read_graph_file(changed(path, change))[0]
    assert first.shape == (ANY, ANY)
    assert second.shape is None


def test_a_file_cut_off_at_any_byte_is_refused(path: Path):
    data = path.read_bytes()
    for size in range(1, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"net\.onnx"):
            read_graph_file(path)


@given(st.binary(min_size=1, max_size=300))
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp("garbage") / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"net\.onnx"):
        read_graph_file(path)


@pytest.mark.parametrize(
    "content", [b"<html></html>", b"PK\x03\x04", b"\x7fELF", b"x" * 5000, bytes(5000)]
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX model") as caught:
        read_graph_file(tmp_path / "net.onnx")
    assert caught.value.hint == "Export, copy or download it again."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.ClearField("graph"), "has no graph or no IR version"),
        (lambda model: model.ClearField("ir_version"), "has no graph or no IR version"),
        (lambda model: model.ClearField("opset_import"), "names no opset"),
        (
            lambda model: setattr(model.opset_import[0], "domain", "my"),
            "names no opset for its ONNX operators",
        ),
        (lambda model: model.graph.ClearField("output"), "has no outputs"),
        (lambda model: model.graph.ClearField("initializer"), r"'' \(MatMul\) reads 'w'"),
        (lambda model: model.graph.ClearField("input"), "reads 'x', which nothing computes"),
        (lambda model: model.graph.node.pop(0), "reads 'h', which nothing computes"),
        (lambda model: model.graph.node.pop(1), "an output of the graph reads 'y'"),
        (
            lambda model: model.graph.node[1].attribute[0].g.ClearField("node"),
            "an output of the graph reads 'a'",
        ),
        (
            lambda model: model.graph.initializer[0].ClearField("float_data"),
            "holds 0 values, not 6",
        ),
    ],
)
def test_a_model_with_a_part_missing_is_refused(path: Path, change, message: str):
    with pytest.raises(ModelError, match=message):
        read_graph_file(changed(path, change))


def test_a_model_that_only_passes_its_input_on_is_whole(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])
    model = helper.make_model(helper.make_graph([], "g", [x], [x]))
    assert read_graph_file(save(model, tmp_path / "net.onnx"))[0] == (
        TensorSpec("x", "int64", ("n",)),
    )


def test_functions_of_the_model_are_looked_into(tmp_path: Path):
    text = """
    <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
    main (float[3] x) => (float[3] y) { y = my.twice (x) }
    <domain: "my", opset_import: ["" : 17]>
    twice (a) => (b) { c = Add (a, a)  b = Identity (c) }
    """
    model = onnx.parser.parse_model(text)
    assert read_graph_file(save(model, tmp_path / "net.onnx"))[0][0].name == "x"
    model.functions[0].node.pop(0)
    with pytest.raises(ModelError, match="reads 'c'"):
        read_graph_file(save(model, tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    ("type_proto", "message"),
    [
        (
            helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2])),
            "declared as sequence",
        ),
        (
            helper.make_tensor_type_proto(TensorProto.STRING, [2]),
            "ONNX element type 8 is not supported",
        ),
        (onnx.TypeProto(), "declared as nothing"),
    ],
)
def test_inputs_that_are_no_tensors_of_numbers_are_named(tmp_path: Path, type_proto, message: str):
    x = helper.make_value_info("x", type_proto)
    model = helper.make_model(helper.make_graph([], "g", [x], [x]))
    with pytest.raises(ModelError, match=f"its input 'x'.*{message}"):
        read_graph_file(save(model, tmp_path / "net.onnx"))


@pytest.mark.assets
def test_every_real_model_is_read(assets: Path):
    paths = sorted((assets / "models").glob("*.onnx"))
    assert len(paths) > 20
    for path in paths:
        specs, files = read_graph_file(path)
        assert specs
        assert files == (path,)


@pytest.mark.assets
@pytest.mark.parametrize(
    "name", ["mnist_winml", "silero_vad_half", "squeezenet_fp16", "yunet_n_dynamic"]
)
def test_a_real_model_cut_off_anywhere_is_refused(assets: Path, tmp_path: Path, name: str):
    data = (assets / "models" / f"{name}.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    ends = [1, 2, 10, len(data) - 40, len(data) - 4, len(data) - 1]
    for size in [*ends, *np.random.default_rng(0).integers(1, len(data), 20).tolist()]:
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"net\.onnx"):
            read_graph_file(path)
