"""The Python API: every edit leaves a valid, sorted model that computes what it should."""

import numpy as np
import onnx_ir as ir
import pytest

from shipway.errors import ModelError, UsageError
from shipway.graph import editing

BODY = """
g (float[n,4] x, bool c) => (float[n,4] y)
<float[4] w = {1,2,3,4}>
{
  [add] a = Add(x, w)
  [if] b = If(c) <
    then_branch = t () => (float[n,4] t1) { [mul] t1 = Mul(a, w) },
    else_branch = e () => (float[n,4] e1) { [neg] e1 = Neg(a) }>
  [relu] y = Relu(b)
}
"""
X = np.array([[1, -2, 3, -4], [-1, 2, -3, 4], [0, 0, 0, 0]], np.float32)
W = np.array([1, 2, 3, 4], np.float32)


@pytest.fixture
def model(lab):
    found = lab.make(BODY)
    for node in found.graph.all_nodes():
        node.metadata_props["from"] = node.name
    return found


def outputs(lab, model, **feeds):
    return [lab.run(model, x=X, c=np.array(c), **feeds)[0] for c in (True, False)]


def test_a_node_is_inserted_inside_a_branch(lab, model):
    node = editing.insert_node(model, "Abs", "t1")
    then, other = outputs(lab, model)
    np.testing.assert_array_equal(then, np.abs((X + W) * W))
    np.testing.assert_array_equal(other, np.maximum(-(X + W), 0))
    assert node.metadata_props == {"from": "mul"}


def test_inserting_at_an_output_keeps_its_name(lab, model):
    editing.insert_node(model, "Neg", "y")
    assert [value.name for value in model.graph.outputs] == ["y"]
    np.testing.assert_array_equal(outputs(lab, model)[0], -np.maximum((X + W) * W, 0))


def test_only_the_named_users_read_the_new_node(lab, model):
    editing.insert_node(model, "Abs", "a", users=["mul"])
    then, other = outputs(lab, model)
    np.testing.assert_array_equal(then, np.abs(X + W) * W)
    np.testing.assert_array_equal(other, np.maximum(-(X + W), 0))


def test_removing_nodes_keeps_the_signature(lab, model):
    editing.remove_node(model, "relu")
    editing.remove_node(model, "mul")
    editing.remove_node(model, "add")
    assert [value.name for value in model.graph.outputs] == ["y"]
    then, other = outputs(lab, model)
    np.testing.assert_array_equal(then, X)
    np.testing.assert_array_equal(other, -X)


def test_replacing_keeps_name_values_and_metadata(lab, model):
    node = editing.replace_node(model, "relu", "Clip", ["b"], attributes={})
    assert (node.name, node.outputs[0].name, node.metadata_props) == ("relu", "y", {"from": "relu"})
    np.testing.assert_array_equal(outputs(lab, model)[0], (X + W) * W)


def test_reconnecting_sorts_what_must_be_sorted(lab, model):
    late = editing.add_node(model, "Mul", ["x", "w"], name="late", outputs=["z"])
    editing.reconnect(model, "neg", 0, late.outputs[0])
    np.testing.assert_array_equal(outputs(lab, model)[1], np.maximum(-X * W, 0))


def test_what_cannot_be_is_refused_and_changes_nothing(lab, model):
    before = ir.to_onnx_text(model)
    refusals = {
        "computed from": lambda: editing.reconnect(model, "add", 0, "y"),
        "cannot see": lambda: editing.reconnect(model, "relu", 0, "t1"),
        "no attribute transA": lambda: editing.set_attribute(model, "add", transA=1),
        "no node 'ad'. Nearest: add": lambda: editing.remove_node(model, "ad"),
        "takes 2 inputs": lambda: editing.add_node(model, "MatMul", ["x"]),
        "no operator Foo": lambda: editing.add_node(model, "Foo", ["x"]),
        "there is a value 'x'": lambda: editing.rename_value(model, "y", "x"),
        "'add' reads it": lambda: editing.remove_input(model, "x"),
        "only output": lambda: editing.remove_output(model, "y"),
        "no input 3": lambda: editing.remove_node(model, "relu", keep=3),
        "has 2 dimensions": lambda: editing.change_shape(model, "x", [1]),
        "There is no dtype": lambda: editing.change_dtype(model, "x", "int3"),
    }
    for text, attempt in refusals.items():
        with pytest.raises(UsageError, match=text):
            attempt()
    with pytest.raises(ModelError, match="contradict"):
        editing.change_shape(model, "x", ["n", 5])
    assert ir.to_onnx_text(model) == before


def test_a_dtype_changes_outside_only(lab, model):
    golden = outputs(lab, model)
    editing.change_dtype(model, "x", "float64")
    editing.change_dtype(model, "y", "float64")
    actual = lab.run(model, x=X.astype(np.float64), c=np.array(True))[0]
    assert actual.dtype == np.float64
    np.testing.assert_array_equal(actual, golden[0])


def test_a_shape_changes_everywhere(lab, model):
    editing.change_shape(model, "x", [3, 4])
    assert list(model.graph.node("add").outputs[0].shape) == [3, 4]
    outputs(lab, model)


def test_inputs_and_outputs_come_and_go(lab, model):
    editing.add_input(model, "bias", "float32", [4])
    editing.insert_node(model, "Sub", "a", inputs=["bias"])
    editing.add_output(model, "a", name="sum")
    sums = lab.run(model, x=X, c=np.array(True), bias=W)[1]
    np.testing.assert_array_equal(sums, X + W)
    editing.remove_output(model, "sum")
    editing.remove_input(model, "bias", constant=np.zeros(4, np.float32))
    np.testing.assert_array_equal(outputs(lab, model)[0], np.maximum((X + W) * W, 0))


def test_constants_are_added_and_replaced(lab, model):
    editing.replace_constant(model, "w", np.full(4, 2, np.float32))
    editing.reconnect(model, "mul", 1, editing.add_constant(model, "k", np.float32([3])))
    np.testing.assert_array_equal(outputs(lab, model)[0], np.maximum((X + 2) * 3, 0))
    with pytest.raises(UsageError, match=r"is float, not double"):
        editing.replace_constant(model, "w", np.zeros(4))


def test_renaming_an_initializer_keeps_it_one(lab, model):
    editing.rename_value(model, "w", "weight")
    editing.rename_node(model, "add", "first")
    assert list(model.graph.initializers) == ["weight"]
    outputs(lab, model)


FUNCTIONS = """
<ir_version: 8, opset_import: ["": 17, "mine": 1]>
g (float[n,4] x) => (float[n,4] y) <float[4] w = {1,2,3,4}>
{ [one] a = mine.twice(x, w) [two] y = mine.twice(a, w) }
<domain: "mine", opset_import: ["": 17]>
twice (i, j) => (o) { [p] k = Add(i, j) [q] o = Mul(k, j) }
"""


def test_functions_are_inlined_with_the_metadata_of_the_call(lab):
    model = ir.from_onnx_text(FUNCTIONS)
    golden = lab.run(model, x=X)
    model.graph.node("one").metadata_props["from"] = "one"
    assert editing.inline_functions(model) == 2
    assert lab.worst(golden, lab.run(model, x=X)) == 0
    names = [node.name for node in model.graph]
    assert len(set(names)) == 4
    assert [node.metadata_props.get("from") for node in model.graph] == ["one", "one", None, None]


def test_nodes_become_a_function(lab, model):
    golden = outputs(lab, model)
    call = editing.outline_function(model, ["if", "relu"], "Tail")
    assert lab.op_types(model) == ["Add", "Tail"]
    assert call.outputs[0].name == "y"
    assert lab.worst(golden, outputs(lab, model)) == 0


def test_a_function_with_another_node_between_is_refused(model):
    with pytest.raises(UsageError, match=r"'if' .* lies between"):
        editing.outline_function(model, ["add", "relu"], "Broken")


def test_models_are_joined_and_clashing_names_kept_apart(lab):
    first, second = (ir.from_onnx_text(FUNCTIONS) for _ in range(2))
    golden = lab.run(second, x=lab.run(first, x=X)[0])
    editing.join_graphs(first, second, {"y": "x"})
    assert [value.name for value in first.graph.outputs] == ["second/y"]
    assert lab.worst(golden, lab.run(first, x=X)) == 0


def test_models_that_do_not_fit_are_not_joined(lab, model):
    second = lab.make("h (float[n,5] x) => (float[n,5] z) { z = Neg(x) }")
    with pytest.raises(UsageError, match="cannot feed"):
        editing.join_graphs(model, second, {"y": "x"})
    other = lab.make("h (float[n,4] x) => (float[n,4] z) { z = Neg(x) }", 16)
    with pytest.raises(ModelError, match="opsets 17 and 16"):
        editing.join_graphs(model, other, {"y": "x"})


def test_a_domain_is_set_with_its_function_and_import():
    model = ir.from_onnx_text(FUNCTIONS)
    assert editing.set_domain(model, "npu", 1) == 2
    assert dict(model.opset_imports) == {"": 17, "npu": 1}
    assert [key[:2] for key in model.functions] == [("npu", "twice")]
    model.graph.node("one").op_type = "Relu"
    with pytest.raises(ModelError, match="operator of ONNX itself"):
        editing.set_domain(model, "ai.onnx", only=["Relu"])


def test_the_default_domain_is_written_in_one_way(lab):
    model = lab.make("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    del model.opset_imports[""]
    model.opset_imports["ai.onnx"] = 17
    assert editing.unify_domain(model) == 1
    assert dict(model.opset_imports) == {"": 17}
