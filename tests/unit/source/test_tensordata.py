"""Tensors in ONNX files: every way to store values is counted right, and missing ones noticed."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipway.errors import ModelError
from shipway.source.tensordata import check_tensor, graph_tensors

PATH = Path("net.onnx")
NUMBERS = [
    value
    for name, value in TensorProto.DataType.items()
    if name not in {"UNDEFINED", "STRING", "FLOAT6E2M3", "FLOAT6E3M2"}
]


def tensor(data_type: int, dims: list[int], *, raw: bool) -> TensorProto:
    """Make a tensor of ones the way onnx itself stores it."""
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    values = np.ones(dims, dtype)
    if raw:
        return numpy_helper.from_array(values, "t")
    return helper.make_tensor("t", data_type, dims, values.flatten().tolist())


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dims", [[], [0], [1], [3], [2, 3, 5]])
@pytest.mark.parametrize("data_type", NUMBERS, ids=TensorProto.DataType.Name)
def test_what_onnx_writes_is_whole_for_every_type(data_type: int, dims: list[int], *, raw: bool):
    assert check_tensor(tensor(data_type, dims, raw=raw), PATH) is None


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("data_type", NUMBERS, ids=TensorProto.DataType.Name)
def test_one_value_too_few_is_noticed_for_every_type(data_type: int, *, raw: bool):
    short = tensor(data_type, [8], raw=raw)
    short.dims[0] = 16
    with pytest.raises(ModelError, match=r"the tensor 't' \[16\] holds .* truncated or damaged"):
        check_tensor(short, PATH)


def test_strings_are_counted():
    check_tensor(helper.make_tensor("t", TensorProto.STRING, [2], [b"a", b"bc"]), PATH)
    with pytest.raises(ModelError, match="holds 1 values, not 2"):
        check_tensor(TensorProto(name="t", data_type=8, dims=[2], string_data=[b"a"]), PATH)


def test_a_tensor_without_any_value_is_noticed():
    with pytest.raises(ModelError, match="holds 0 values, not 6"):
        check_tensor(TensorProto(name="t", data_type=1, dims=[2, 3]), PATH)


def test_tensors_in_attributes_and_subgraphs_are_found():
    constant = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2), "inner")
    )
    body = helper.make_graph(
        [constant], "body", [], [], [numpy_helper.from_array(np.ones(1), "own")]
    )
    branch = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    graph = helper.make_graph([branch], "g", [], [], [numpy_helper.from_array(np.ones(1), "outer")])
    assert [found.name for found in graph_tensors(graph)] == [
        "outer",
        "own",
        "inner",
        "own",
        "inner",
    ]


def external(location: str, **entries: object) -> TensorProto:
    made = TensorProto(name="t", data_type=1, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        made.external_data.add(key=key, value=str(value))
    return made


def test_external_data_is_found_and_returned(tmp_path: Path):
    (tmp_path / "sub folder").mkdir()
    (tmp_path / "sub folder/w.bin").write_bytes(bytes(40))
    path = tmp_path / "net.onnx"
    found = check_tensor(external("sub folder/w.bin", offset=16, length=24), path)
    assert found == tmp_path / "sub folder/w.bin"
    (tmp_path / "w.bin").write_bytes(bytes(24))
    assert check_tensor(external("w.bin"), path) == tmp_path / "w.bin"


def test_absent_external_data_is_named_with_where_it_belongs(tmp_path: Path):
    with pytest.raises(ModelError, match=r"has its values in .*w\.bin, which is absent") as caught:
        check_tensor(external("w.bin"), tmp_path / "net.onnx")
    assert caught.value.hint.startswith(f"Copy w.bin into {tmp_path}")


@pytest.mark.parametrize(
    "entries", [{}, {"offset": 4, "length": 24}, {"length": 12}, {"length": 48}]
)
def test_external_data_that_is_too_short_is_noticed(tmp_path: Path, entries: dict[str, int]):
    (tmp_path / "w.bin").write_bytes(bytes(20))
    with pytest.raises(ModelError, match=r"needs 24 bytes at .*\(20 bytes\)"):
        check_tensor(external("w.bin", **entries), tmp_path / "net.onnx")


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str):
    (tmp_path / "w.bin").write_bytes(bytes(24))
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="outside the folder of the model"):
        check_tensor(external(location), tmp_path / "model/net.onnx")


@pytest.mark.parametrize("entry", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "many", ""])
def test_external_data_with_senseless_numbers_is_refused(tmp_path: Path, entry: str, value: str):
    (tmp_path / "w.bin").write_bytes(bytes(100))
    with pytest.raises(ModelError, match=f"'{value}' as its {entry}"):
        check_tensor(external("w.bin", **{entry: value}), tmp_path / "net.onnx")
