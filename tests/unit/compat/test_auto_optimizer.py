"""auto_optimizer's calls, as its published scripts use them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest

from shipway.compat.auto_optimizer import Initializer, Node, OnnxGraph, PlaceHolder
from shipway.errors import ModelError, UsageError

LINE = """
<ir_version: 8, opset_import: ["": 17, "npu": 2]>
agraph (float[n, 4] x) => (float[n, 4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}>
{
  c = Constant<value = float[4] {0.5, 0.5, 0.5, 0.5}>()
  [Add_0] a = Add(x, w)
  [Mul_1] m = Mul(a, c)
  [Relu_2] y = Relu(m)
}
"""


@pytest.fixture
def graph() -> OnnxGraph:
    return OnnxGraph.parse(onnx.parser.parse_model(LINE))


def wires(graph: OnnxGraph) -> list[tuple[str, list[str], list[str]]]:
    return [(node.op_type, list(node.inputs), list(node.outputs)) for node in graph.nodes]


def saved(graph: OnnxGraph, tmp_path: Path) -> onnx.ModelProto:
    graph.save(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model


def test_parse_shows_what_is_there_and_drops_no_domain(graph: OnnxGraph) -> None:
    assert [one.name for one in graph.inputs] == ["x"]
    assert graph.inputs[0].shape == ["n", 4]
    assert graph.inputs[0].dtype == np.float32
    assert {one.name for one in graph.initializers} == {"w", "c"}
    assert [one.op_type for one in graph.nodes] == ["Add", "Mul", "Relu"]
    assert [(one.domain, one.version) for one in graph.opset_imports] == [("", 17), ("npu", 2)]
    assert graph["Add_0"] is graph.get_node("Add_0") is graph.get_prev_node("a")
    assert graph.get_node("w", Initializer).value.tolist() == [1, 2, 3, 4]
    assert graph.get_node("w", PlaceHolder) is None
    assert graph.get_node("Add_0", Initializer) is None
    assert [one.name for one in graph.get_nodes("PlaceHolder")] == ["x", "y"]
    assert graph.get_next_nodes("absent") == []


def test_absent_and_taken_names_are_errors_scripts_can_catch(graph: OnnxGraph) -> None:
    with pytest.raises(KeyError, match="Concat_24"):
        graph["Concat_24"]
    with pytest.raises(ModelError):
        graph.remove("Concat_24")
    with pytest.raises(ValueError, match="'w' already"):
        graph.add_initializer("w", np.zeros(1))
    with pytest.raises(RuntimeError, match="should be one of"):
        graph["Add_0"].get_input_id("absent")
    assert not hasattr(graph, "frobnicate")
    assert not hasattr(graph["Add_0"], "frobnicate")


def test_lists_are_live(graph: OnnxGraph, tmp_path: Path) -> None:
    """Changing a list of names in any way moves the wires."""
    mul = graph["Mul_1"]
    mul.inputs[0] = "x"
    assert graph.get_next_nodes("a") == []
    assert graph.get_next_nodes("x") == [graph["Add_0"], mul]
    mul.inputs.reverse()
    mul.inputs = [*mul.inputs]
    assert mul.inputs == ["c", "x"]
    graph.remove_unused_nodes()
    assert [one.name for one in graph.initializers] == ["c"]
    assert [node.op_type for node in saved(graph, tmp_path).graph.node] == ["Mul", "Relu"]


def test_insert_before_and_after(graph: OnnxGraph, tmp_path: Path) -> None:
    for name, anchor, mode in (
        ("Neg_a", "Add_0", "after"),
        ("Neg_b", "Add_0", "before"),
        ("Neg_c", "x", "after"),
        ("Neg_d", "y", "before"),
        ("Neg_e", "w", "after"),
    ):
        graph.insert_node(anchor, graph.add_node(name, "Neg"), mode=mode)
    graph.toposort()
    assert wires(graph) == [
        ("Neg", ["x"], ["Neg_c/Neg_b"]),
        ("Neg", ["Neg_c/Neg_b"], ["Neg_b/Add_0"]),
        ("Neg", ["w"], ["Neg_e/Add_0"]),
        ("Add", ["Neg_b/Add_0", "Neg_e/Add_0"], ["Add_0/Neg_a"]),
        ("Neg", ["Add_0/Neg_a"], ["a"]),
        ("Mul", ["a", "c"], ["m"]),
        ("Relu", ["m"], ["Relu_2/Neg_d"]),
        ("Neg", ["Relu_2/Neg_d"], ["y"]),
    ]
    assert len(saved(graph, tmp_path).graph.node) == 8
    for anchor, mode in (("x", "before"), ("y", "after"), ("Add_0", "beside")):
        with pytest.raises(UsageError):
            graph.insert_node(anchor, Node("Neg_z", "Neg"), mode=mode)


def test_remove_bridges_and_outputs_keep_their_names(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.remove("Relu_2")
    assert wires(graph) == [("Add", ["x", "w"], ["a"]), ("Mul", ["a", "c"], ["y"])]
    graph.remove("Add_0", {1: 0})
    assert wires(graph) == [("Mul", ["w", "c"], ["y"])]
    graph["Mul_1"].inputs[0] = "x"
    graph.remove("w", maps={})
    assert [node.output[0] for node in saved(graph, tmp_path).graph.node] == ["y"]


def test_a_node_just_added_is_no_reader_yet(graph: OnnxGraph, tmp_path: Path) -> None:
    """Scripts add a node on a name and then lead the name's readers to it: that is no cycle."""
    graph.add_node("Neg_9", "Neg", inputs=["a"], outputs=["b"])
    for reader in graph.get_next_nodes("a"):
        reader.inputs[reader.get_input_id("a")] = "b"
    graph.update_map()
    assert [one.name for one in graph.get_next_nodes("a")] == ["Neg_9"]
    assert [node.op_type for node in saved(graph, tmp_path).graph.node][1] == "Neg"


def test_connect_node_and_replacing(graph: OnnxGraph, tmp_path: Path) -> None:
    split = graph.add_node("Split_3", "Split", attrs={"axis": 1})
    graph.add_initializer("sizes", np.array([2, 2]))
    concat = graph.add_node("Concat_4", "Concat", attrs={"axis": 1})
    graph.connect_node(concat, ["x", "x"], ["Mul_1:0"])
    graph.connect_node(split, ["Relu_2:0", "sizes"], ["Concat_4:0", "Concat_4:1"])
    graph["Relu_2"].inputs[0] = "x"
    graph["Relu_2"].outputs = ["r"]
    split.inputs[0] = "r"
    graph["Mul_1"].outputs = ["y"]
    graph["Add_0"] = graph.add_node("Sub_5", "Sub")
    graph.remove("Sub_5", {})
    model = saved(graph, tmp_path)
    assert [node.op_type for node in model.graph.node] == ["Relu", "Split", "Concat", "Mul"]
    assert model.graph.node[1].input == ["r", "sizes"]


def test_connect_at_the_end(graph: OnnxGraph, tmp_path: Path) -> None:
    neg = graph.add_node("Neg_3", "Neg")
    graph.connect_node(neg, ["Relu_2"], ["y"])
    assert wires(graph)[-2:] == [("Relu", ["m"], ["Neg_3_in_0"]), ("Neg", ["Neg_3_in_0"], ["y"])]
    saved(graph, tmp_path)


def test_attributes_are_python_values_that_reach_the_file(tmp_path: Path) -> None:
    graph = OnnxGraph("made", opset_imports=13)
    graph.add_input("x", "float32", [1, 2, 8, 8])
    graph.add_output("y", np.dtype("float32"), [1, -1, "h", "w"])
    attrs = {"kernel_shape": [2], "auto_pad": "SAME_UPPER", "ceil_mode": 0}
    pool = graph.add_node("Pool_0", "AveragePool", ["x"], ["y"], attrs)
    pool.attrs["kernel_shape"].append(3)
    with pytest.warns(UserWarning, match="do not have strides"):
        pool["strides"] = np.array([2, 2])
    assert pool["auto_pad"] == b"SAME_UPPER"
    with pytest.raises(KeyError):
        pool["absent"]
    del pool.attrs["ceil_mode"]
    model = saved(graph, tmp_path)
    node = model.graph.node[0]
    found = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    assert found == {"kernel_shape": [2, 3], "auto_pad": b"SAME_UPPER", "strides": [2, 2]}
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert [one.dim_value or one.dim_param for one in dims] == [1, "", "h", "w"]


def test_placeholders_write_through(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.inputs[0].shape[0] = 8
    graph.outputs[0].shape = [8, 4]
    graph.inputs[0].name = "image"
    graph["Add_0"].inputs[0] = "image"
    extra = graph.add_input("unread", "int32", [1])
    graph.inputs.remove(extra)
    model = saved(graph, tmp_path)
    assert model.graph.input[0].name == "image"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 8
    assert len(model.graph.input) == 1


def test_two_graphs_do_not_touch_each_other(tmp_path: Path) -> None:
    """MagicONNX kept its maps in the class: a second graph broke the first."""
    proto = onnx.parser.parse_model(LINE)
    first, second = OnnxGraph.parse(proto), OnnxGraph.parse(proto)
    second.remove("Mul_1")
    second["Add_0"].inputs[1] = "x"
    second["w"].value = np.zeros(2, "f")
    assert wires(first) == wires(OnnxGraph.parse(proto))
    assert first.get_prev_node("m") is first["Mul_1"]
    assert len(first["w"].value) == 4
    twin = copy.deepcopy(first)
    twin.remove("Relu_2")
    assert len(first.nodes) == 3
    saved(first, tmp_path)
    saved(twin, tmp_path)


def test_shapes_are_declared_only_where_they_are_sure(graph: OnnxGraph, tmp_path: Path) -> None:
    assert graph.value_infos == []
    graph.infer_shape()
    assert graph.get_value_info("m").shape == ["n", 4]
    assert {one.name for one in graph.value_infos} == {"a", "m"}
    assert {one.name for one in saved(graph, tmp_path).graph.value_info} == {"a", "m"}
    graph["Mul_1"].attrs  # noqa: B018 -- looking changes nothing
    graph["Mul_1"].inputs[1] = "a"
    assert [one.name for one in saved(graph, tmp_path).graph.value_info] == ["a"]


def test_opset_imports_may_be_changed(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.opset_imports.pop(1)
    assert [one.version for one in saved(graph, tmp_path).opset_import] == [17]
    graph.opset_imports = 13
    assert [one.version for one in saved(graph, tmp_path).opset_import] == [13]


def test_simplify_returns_a_copy(graph: OnnxGraph) -> None:
    graph.insert_node("Add_0", graph.add_node("Identity_3", "Identity"))
    small = graph.simplify(skip_shape_inference=True, overwrite_input_shapes={"x": [2, 4]})
    assert [one.op_type for one in small.nodes] == ["Add", "Mul", "Relu"]
    assert small.inputs[0].shape == [2, 4]
    assert len(graph.nodes) == 4
    assert graph.inputs[0].shape == ["n", 4]


def test_extract_gives_the_part_its_types(graph: OnnxGraph, tmp_path: Path) -> None:
    part = graph.extract(tmp_path / "part.onnx", ["a"], ["m"])
    model = onnx.load(tmp_path / "part.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [one.op_type for one in part.nodes] == ["Mul"]
    assert part.inputs[0].shape == ["n", 4]
    with pytest.raises(UsageError, match="cannot be cut"):
        graph.extract(tmp_path / "part.onnx", ["m"], ["a"])


def test_extract_subgraph_takes_nodes(graph: OnnxGraph, tmp_path: Path) -> None:
    path = tmp_path / "part.onnx"
    part = graph.extract_subgraph(
        ["Mul_1"], ["Relu_2"], str(path), input_shape="a:3,4", input_dtype="a:fp32"
    )
    assert [one.op_type for one in part.nodes] == ["Mul", "Relu"]
    assert [one.name for one in part.inputs] == ["a"]
    assert part.inputs[0].shape == [3, 4]
    assert len(graph.extract_subgraph().nodes) == 3
    with pytest.raises(ValueError, match="no path"):
        graph.extract_subgraph(["Relu_2"], ["Add_0"])
    with pytest.raises(ValueError, match="not in this model"):
        graph.extract_subgraph(["Concat_24"])


def test_concat_graph_prefixes_the_first_where_names_clash(
    graph: OnnxGraph, tmp_path: Path
) -> None:
    other = copy.deepcopy(graph)
    both = OnnxGraph.concat_graph(graph, other, io_map=[("y", "x")])
    assert [one.name for one in both.inputs] == ["pre_x"]
    assert [one.name for one in both.outputs] == ["y"]
    assert len(saved(both, tmp_path).graph.node) == 6
    assert len(graph.nodes) == len(other.nodes) == 3
    with pytest.raises(UsageError):
        OnnxGraph.concat_graph(graph, other, io_map=[("absent", "x")])


def test_bad_graphs_are_refused_by_name(graph: OnnxGraph, tmp_path: Path) -> None:
    path = tmp_path / "never.onnx"
    twice = copy.deepcopy(graph)
    twice.add_node("Neg_3", "Neg", ["x"], ["m"])
    with pytest.raises(ModelError, match="'m' is written twice: by 'Mul_1' and by 'Neg_3'"):
        twice.save(path)
    cycle = copy.deepcopy(graph)
    cycle["Add_0"].inputs[0] = "m"
    with pytest.raises(RuntimeError, match="Cycle detected in graph"):
        cycle.toposort()
    gone = copy.deepcopy(graph)
    gone.remove("Relu_2", {})
    with pytest.raises(ModelError, match="Nothing computes the output 'y'"):
        gone.save(path)
    with pytest.raises(ModelError, match="No such file"):
        OnnxGraph.parse("absent.onnx")
    assert not path.exists()


def test_nodes_that_wait_for_nothing_are_left_out(graph: OnnxGraph, tmp_path: Path) -> None:
    graph.add_node("Neg_3", "Neg", ["nowhere"], ["dead"])
    with pytest.warns(UserWarning, match="left out.*'Neg_3'"):
        model = saved(graph, tmp_path)
    assert len(model.graph.node) == 3


BRANCH = """
<ir_version: 8, opset_import: ["": 17]>
agraph (float[4] x, bool yes) => (float[4] y)
{
  [Neg_0] a = Neg(x)
  [Abs_1] b = Abs(a)
  [If_2] y = If (yes) <
    then_branch = inside () => (float[4] t) { t = Exp(b) },
    else_branch = other () => (float[4] f) { f = Add(b, a) }
  >
}
"""


def test_branches_follow_what_happens_outside(tmp_path: Path) -> None:
    """Branches read names around them: removing and inserting outside reaches them."""
    graph = OnnxGraph.parse(onnx.parser.parse_model(BRANCH))
    graph.remove("Abs_1")
    graph.insert_node("Neg_0", graph.add_node("Sin_3", "Sin"))
    model = saved(graph, tmp_path)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Sin", "If"]
    inner = [list(one.g.node[0].input) for one in model.graph.node[2].attribute]
    assert inner == [["a"], ["a", "a"]]
    graph.remove_unused_nodes()
    assert len(graph.nodes) == 3


def test_everything_a_model_carries_comes_along(tmp_path: Path) -> None:
    """Metadata, doc strings, defaults of inputs and weights in a file of their own."""
    model = onnx.parser.parse_model(LINE)
    model.metadata_props.add(key="author", value="somebody")
    model.graph.node[1].metadata_props.add(key="namespace", value="net/0")
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [4]))
    onnx.save(model, tmp_path / "before.onnx")
    graph = OnnxGraph.parse(str(tmp_path / "before.onnx"))
    assert [one.name for one in graph.inputs] == ["x"]
    graph.insert_node("Add_0", graph.add_node("Neg_3", "Neg"))
    graph.save(str(tmp_path / "after.onnx"), save_as_external_data=True)
    after = onnx.load(tmp_path / "after.onnx")
    assert after.metadata_props[0].value == "somebody"
    assert after.graph.node[0].metadata_props[0].value == "net/0"
    assert [one.name for one in after.graph.input] == ["x", "w"]
