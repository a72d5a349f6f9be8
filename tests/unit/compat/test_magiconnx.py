"""MagicONNX's calls, of both branches, as its published scripts use them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from shipway.compat.magiconnx import INITIALIZER, PLACEHOLDER, OnnxGraph
from shipway.compat.magiconnx.optimize import OptimizerManager
from shipway.errors import ModelError, UsageError

LINE = """
<ir_version: 8, opset_import: ["": 17]>
agraph (float[n, 4] x) => (float[n, 4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}>
{
  c = Constant<value = float[4] {0.5, 0.5, 0.5, 0.5}>()
  [Add_0] a = Add(x, w)
  [Mul_1] m = Mul(a, c)
  [Concat_2] k = Concat<axis = 1>(m, a)
  [Slice_3] y = Slice(k, zero, four, one)
}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    model = onnx.parser.parse_model(LINE)
    for name, value in (("zero", 0), ("four", 4), ("one", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "model.onnx")
    return str(tmp_path / "model.onnx")


@pytest.fixture
def graph(path: str) -> OnnxGraph:
    return OnnxGraph(path)


def saved(graph: OnnxGraph, tmp_path: Path) -> onnx.ModelProto:
    graph.save(str(tmp_path / "after.onnx"))
    model = onnx.load(tmp_path / "after.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model


def test_the_first_branch_gives_names_and_protobufs(graph: OnnxGraph) -> None:
    assert graph.inputs == ["x"]
    assert graph.outputs == ["y"]
    assert len(graph.get_nodes("Constant")) == 1
    assert graph.get_nodes("Constant")[0].value.tolist() == [0.5] * 4
    assert {one.name for one in graph.get_nodes(INITIALIZER)} == {"w", "zero", "four", "one"}
    assert [one.name for one in graph.get_nodes(PLACEHOLDER)] == ["x", "y"]
    assert graph["x"].shape == "[n, 4]"
    assert graph["x"].dtype == np.float32
    assert graph["a"] is graph["Add_0"]
    assert graph["Concat_2"].attrs["axis"].i == graph["Concat_2"]["axis"] == 1
    assert [one.name for one in graph.get_next_nodes("Add_0")] == ["Mul_1", "Concat_2"]
    for error in (KeyError, ValueError, ModelError):
        with pytest.raises(error):
            graph["Concat_24"]


def test_the_later_branch_gives_objects_and_values(path: str) -> None:
    graph = OnnxGraph.parse(path)
    assert isinstance(graph, OnnxGraph)
    assert [one.name for one in graph.inputs] == ["x"]
    assert graph.inputs[0].shape == ["n", 4]
    assert graph["c"].value.tolist() == [0.5] * 4
    assert graph["Concat_2"].attrs["axis"] == 1
    assert [one.op_type for one in graph.toposort()] == ["Add", "Mul", "Concat", "Slice"]
    assert isinstance(graph.model, onnx.ModelProto)
    assert len(graph.graph.node) == len(graph.nodes) == 4


def test_nodes_are_made_and_wired_through_their_protobufs(graph: OnnxGraph, tmp_path: Path) -> None:
    """The way scripts do it: `graph[name].node.input.append(...)`."""
    graph.add_node("Expand_4", "Expand")
    graph.add_initializer(name="pad", value=np.zeros((1, 2), "f"))
    graph.add_initializer(name="pad_shape", value=np.array([1, 2]))
    graph["Expand_4"].node.input[0] = "pad"
    graph["Expand_4"].node.input.append("pad_shape")
    graph["Expand_4"].node.output[0] = "pad_out"
    graph.add_node("Reduce_5", "ReduceSum", attrs={"keepdims": 0})
    graph["Reduce_5"].inputs = ["pad_out"]
    graph["Reduce_5"].set_output(0, "scalar")
    add = graph.add_node("Add_6", "Add", inputs=["Null"], outputs=["Null"])
    graph.insert_node("Slice_3", add, index=0, mode="before")
    add.inputs.append("scalar")
    model = saved(graph, tmp_path)
    assert [node.op_type for node in model.graph.node][-1] == "Slice"
    assert model.graph.node[-1].input[0] == "Add_6/Slice_3"


def test_attributes_change_through_every_form(graph: OnnxGraph, tmp_path: Path) -> None:
    concat = graph["Concat_2"]
    concat["axis"] = 0
    assert concat.attrs["axis"].i == 0
    concat.attrs["axis"].i = 1
    assert concat["axis"] == 1
    concat._node.attribute[0].i = -1
    assert concat["axis"] == -1
    concat.node.attribute.append(helper.make_attribute("note", "x"))
    assert concat["note"] == b"x"
    del concat.node.attribute[1]
    assert "note" not in concat.attrs
    with pytest.warns(UserWarning, match="responsible"):
        concat["note"] = 1
    del concat.attrs["note"]
    assert saved(graph, tmp_path).graph.node[-2].attribute[0].i == -1
    with pytest.raises(KeyError):
        concat["absent"]


def test_constants_and_placeholders_change_through_their_protobufs(
    graph: OnnxGraph, tmp_path: Path
) -> None:
    graph["w"].node.CopyFrom(onnx.numpy_helper.from_array(np.full(4, 7, "f"), "w"))
    graph["x"].node.type.tensor_type.shape.dim[0].dim_value = 3
    graph["y"].shape = [3, 4]
    graph.get_nodes("Constant")[0].value = np.ones(4, "f")
    model = saved(graph, tmp_path)
    assert onnx.numpy_helper.to_array(model.graph.initializer[0]).tolist() == [7] * 4
    assert graph["x"].shape == "[3, 4]"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    with pytest.raises(RuntimeError, match="Only support"):
        graph["Add_0"].value = np.ones(1)


def test_del_node_connects_what_is_left(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.del_node("Mul_1")
    assert graph["Concat_2"].inputs == ["a", "a"]
    graph.del_node("Concat_2", maps={0: 0})
    assert graph["Slice_3"].inputs[0] == "a"
    graph.del_node("Slice_3")
    assert [node.op_type for node in saved(graph, tmp_path).graph.node] == ["Constant", "Add"]


def test_del_node_with_maps_and_without_connection(graph: OnnxGraph) -> None:
    graph.del_node("Mul_1", maps={0: 1})
    assert graph["Concat_2"].inputs == ["m", "a"]
    graph.del_node("Add_0", auto_connection=False)
    assert graph["Concat_2"].inputs == ["m", "a"]


def test_the_later_branch_removes_and_connects(path: str, tmp_path: Path) -> None:
    graph = OnnxGraph.parse(path)
    graph.remove("Mul_1")
    graph.add_node("Neg_4", "Neg", outputs=["n"])
    graph["Neg_4"].inputs = ["a"]
    graph.connection("Neg_4", 0, "Concat_2", [0, 1])
    model = saved(graph, tmp_path)
    assert list(model.graph.node[2].input) == ["n", "n"]
    with pytest.raises(RuntimeError, match="fuzzy"):
        graph.connection("Neg_4", [0, 0], "Concat_2", [0, 1, 1])


def test_a_node_takes_the_place_of_another(graph: OnnxGraph, tmp_path: Path) -> None:
    graph["Mul_1"] = graph.add_node("Sub_4", "Sub")
    assert graph["Sub_4"].inputs == ["a", graph.get_nodes("Constant")[0].outputs[0]]
    assert "Sub" in {node.op_type for node in saved(graph, tmp_path).graph.node}
    with pytest.raises(UsageError):
        graph["Add_0"] = graph["w"]


def test_add_placeholder(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.add_placeholder("extra", "float32", [1, 4])
    graph["Mul_1"].set_input(1, "extra")
    assert [one.name for one in saved(graph, tmp_path).graph.input] == ["x", "extra"]
    with pytest.raises(AssertionError):
        graph.add_placeholder("extra", "float32", [1, 4])


def test_run_gives_outputs_in_order(graph: OnnxGraph) -> None:
    x = np.arange(8, dtype="f").reshape(2, 4)
    (y,) = graph.run(x)
    np.testing.assert_allclose(y, (x + np.arange(1, 5)) * 0.5)
    with pytest.raises(UsageError, match="has 1 inputs"):
        graph.run([x, x])


def test_simplify_in_place_or_as_a_model(graph: OnnxGraph) -> None:
    graph.insert_node("Add_0", graph.add_node("Identity_4", "Identity"))
    model = graph.simplify(False)
    assert isinstance(model, onnx.ModelProto)
    assert "Identity" not in {node.op_type for node in model.graph.node}
    assert len(graph.nodes) == 6
    assert graph.simplify(True) is graph
    assert not graph.get_nodes("Identity")


def test_extract_takes_the_graph_as_it_is(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.insert_node("Add_0", graph.add_node("Neg_4", "Neg"))
    graph.extract(str(tmp_path / "part.onnx"), ["x"], ["a"], enable_model_check=False)
    assert [node.op_type for node in onnx.load(tmp_path / "part.onnx").graph.node] == ["Add", "Neg"]


def test_changes_to_the_whole_protobuf_are_refused_not_lost(
    graph: OnnxGraph, tmp_path: Path
) -> None:
    assert graph.graph.node[1].name == "Add_0"
    graph.save(tmp_path / "unchanged.onnx")
    graph.graph.node[1].name = "renamed"
    with pytest.raises(NotImplementedError, match=r"graph\.graph"):
        graph.save(tmp_path / "changed.onnx")
    assert not (tmp_path / "changed.onnx").exists()


def test_optimizers_are_refused(graph: OnnxGraph) -> None:
    with pytest.raises(NotImplementedError, match="BertBigKernelOptimizer"):
        OptimizerManager(graph, optimizers=["BertBigKernelOptimizer"])


def test_keep_default_domain_refuses_what_would_mean_something_else(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 13, "npu": 1]> g (float[2] x) => (float[2] y) { y = npu.%s(x) }'
    onnx.save(onnx.parser.parse_model(text % "Relu"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="an operator of ONNX itself"):
        OnnxGraph(tmp_path / "model.onnx").keep_default_domain()
    text = text.replace('"": 13, ', "")
    onnx.save(onnx.parser.parse_model(text % "Twice"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="imports no opset of the default domain"):
        OnnxGraph(tmp_path / "model.onnx").keep_default_domain()
