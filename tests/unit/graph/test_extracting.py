"""Parts of models: what they hold, what they declare, and what is refused."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from shipway.errors import UsageError
from shipway.graph.extracting import extract_graph
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.tensors import parse_spec

CHAIN = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x, float[k] other) => (float[n,8] y, float[k] z) {
  a = Relu(x)
  "b/of c" = Concat<axis=1>(a, a)
  y = Neg("b/of c")
  z = Abs(other)
}"""


def load(text, tmp_path, weights=None):
    proto = onnx.parser.parse_model(text.replace('"b/of c"', "b_of_c"))
    for node in proto.graph.node:  # the text format has no names with slashes and spaces
        for names in (node.input, node.output):
            names[:] = [name.replace("b_of_c", "b/of c") for name in names]
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.save(proto, tmp_path / "whole.onnx")
    return load_graph(tmp_path / "whole.onnx")


def saved(model, tmp_path):
    save_graph(model, tmp_path / "part.onnx")
    onnx.checker.check_model(tmp_path / "part.onnx")
    return onnx.load(tmp_path / "part.onnx")


def test_a_part_declares_what_follows_from_the_whole_model(tmp_path):
    model = load(CHAIN, tmp_path)
    found = extract_graph(model, ["a"], ["b/of c"])
    assert found.inputs == ("a:float32[n,4]",)
    assert found.outputs == ("b/of c:float32[n,8]",)
    assert (found.nodes_before, found.nodes_after, found.notes) == (4, 1, ())
    assert [node.op_type for node in saved(model, tmp_path).graph.node] == ["Concat"]


def test_without_inputs_it_takes_what_the_outputs_need(tmp_path):
    model = load(CHAIN, tmp_path)
    assert extract_graph(model, None, ["b/of c"]).inputs == ("x:float32[n,4]",)
    assert [node.op_type for node in saved(model, tmp_path).graph.node] == ["Relu", "Concat"]


def test_false_declarations_are_not_copied(tmp_path):
    proto = onnx.parser.parse_model(CHAIN.replace('"b/of c"', "b"))
    for name, sizes in (("a", [7, 7, 7]), ("b", [1, 1])):
        kind = onnx.TensorProto.INT8 if name == "a" else onnx.TensorProto.FLOAT
        proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, sizes))
    onnx.save(proto, tmp_path / "false.onnx")
    model = load_graph(tmp_path / "false.onnx")
    found = extract_graph(model, ["a"], ["y"])
    assert found.inputs == ("a:float32[n,4]",)
    (inside,) = saved(model, tmp_path).graph.value_info
    assert [dim.dim_param or dim.dim_value for dim in inside.type.tensor_type.shape.dim] == ["n", 8]


def test_sizes_are_computed_through_constants_functions_and_reshapes(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
main (float[n,6] x) => (float[m] y) {
  a = own.Twice(x)
  target = Constant<value_ints=[-1,2,3]>()
  b = Reshape(a, target)
  hits = NonZero(b)
  c = Cast<to=1>(hits)
  d = Neg(c)
  y = ReduceSum<keepdims=0>(d)
}
<domain: "own", opset_import: ["" : 20]>
Twice (v) => (w) { t = Concat<axis=0>(v, v)  w = Relu(t) }"""
    model = load(text, tmp_path)
    assert extract_graph(model, ["a"], ["b"]).inputs == ("a:float32[2*n,6]",)
    assert extract_graph(load(text, tmp_path), ["b"], ["hits"]).inputs == ("b:float32[2*n,2,3]",)
    model = load(text, tmp_path)
    found = extract_graph(model, ["hits"], ["d"])
    assert (found.inputs, found.outputs) == (
        ("hits:int64[3,hits_dim1]",),
        ("d:float32[3,hits_dim1]",),
    )
    assert not model.functions
    assert "own" not in model.opset_imports


def test_functions_that_are_called_stay(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
main (float[n] x) => (float[n] y) { a = Relu(x)  b = own.F(a)  y = Neg(b) }
<domain: "own", opset_import: ["" : 20, "own" : 1]>
F (v) => (w) { w = own.G(v) }
<domain: "own", opset_import: ["" : 20]>
G (v) => (w) { w = Abs(v) }
<domain: "own", opset_import: ["" : 20]>
H (v) => (w) { w = Abs(v) }"""
    model = load(text, tmp_path)
    extract_graph(model, ["a"], ["b"])
    assert {name for _, name, _ in model.functions} == {"F", "G"}
    saved(model, tmp_path)


def test_what_a_branch_reads_from_outside_is_kept_or_fed(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n] x, bool c) => (float[n] y) <float[1] w> {
  a = Relu(x)
  b = Neg(x)
  r = If(c) <then_branch = t () => (p) { p = Add(a, w) }, else_branch = e () => (q) { q = Abs(b) }>
  y = Exp(r)
}"""
    model = load(text, tmp_path, {"w": np.ones(1, np.float32)})
    found = extract_graph(model, ["a", "b", "c"], ["r"])
    assert found.inputs == ("a:float32[n]", "b:float32[n]", "c:bool[]")
    proto = saved(model, tmp_path)
    assert [one.name for one in proto.graph.initializer] == ["w"]
    assert [node.op_type for node in proto.graph.node] == ["If"]
    with pytest.raises(UsageError, match=r"cannot be computed from a alone.*c and x") as caught:
        extract_graph(load(text, tmp_path, {"w": np.ones(1, np.float32)}), ["a"], ["r"])
    assert caught.value.hint == "Name more inputs: --inputs a,c,x"


def test_one_output_of_a_node_can_be_fed_while_another_is_needed(tmp_path, session):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[4] x) => (float[2] y) { a, b = Split<num_outputs=2>(x)  y = Sub(a, b) }"""
    model = load(text, tmp_path)
    extract_graph(model, ["x", "a"], ["y"])
    saved(model, tmp_path)
    feeds = {"x": np.arange(4, dtype=np.float32), "a": np.full(2, 10, np.float32)}
    (found,) = session(tmp_path / "part.onnx").run(None, feeds)
    assert found.tolist() == [8, 7]


def test_weights_are_kept_where_needed_and_may_become_inputs(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,2] x, float[2] default) => (float[n,3] y) <float[2,3] w, float[3] b> {
  h = Add(x, default)
  m = MatMul(h, w)
  y = Add(m, b)
}"""
    weights = {
        "w": np.ones((2, 3), np.float32),
        "b": np.ones(3, np.float32),
        "default": np.zeros(2, np.float32),
    }
    model = load(text, tmp_path, weights)
    found = extract_graph(model, ["x"], ["m"])
    assert found.inputs == ("x:float32[n,2]", "default:float32[2]")
    proto = saved(model, tmp_path)
    assert {one.name for one in proto.graph.initializer} == {"w", "default"}
    model = load(text, tmp_path, weights)
    assert extract_graph(model, ["h", "w"], ["m"]).inputs == ("h:float32[n,2]", "w:float32[2,3]")
    assert not saved(model, tmp_path).graph.initializer


def test_sizes_can_be_fixed(tmp_path):
    model = load(CHAIN, tmp_path)
    found = extract_graph(model, ["a"], ["y"], sizes={"n": 3})
    assert (found.inputs, found.outputs) == (("a:float32[3,4]",), ("y:float32[3,8]",))
    with pytest.raises(UsageError, match="no dynamic dimension 'm'") as caught:
        extract_graph(load(CHAIN, tmp_path), ["a"], ["y"], sizes={"m": 3})
    assert caught.value.hint == "There are: n, k."


CUSTOM = """<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>
main (float[n,4] x) => (float[n,4] y) { a = mine.Op(x)  b = Relu(a)  y = Neg(b) }"""


def test_behind_an_unknown_operator_the_user_is_asked(tmp_path):
    with pytest.raises(UsageError, match=r"dtype of 'a' is not known.* behind Op") as caught:
        extract_graph(load(CUSTOM, tmp_path), ["a"], ["b"])
    assert '--type "a:float32[batch,3]"' in caught.value.hint
    types = [parse_spec("a:float16[n,?,2]"), parse_spec("b:float16[n,?,2]")]
    found = extract_graph(load(CUSTOM, tmp_path), ["a"], ["b"], types=types)
    assert (found.inputs, found.notes) == (("a:float16[n,?,2]",), ())
    types = [parse_spec("a:float16[n,rows,2]")]
    found = extract_graph(load(CUSTOM, tmp_path), ["a"], ["y"], types=types, sizes={"rows": 5})
    assert found.inputs == ("a:float16[n,5,2]",)
    assert found.outputs == ("y:float16[n,5,2]",)  # it follows from what the user said


def test_a_declaration_that_nothing_confirms_is_said_to_be_one(tmp_path):
    model = load(CUSTOM, tmp_path)
    a = next(iter(model.graph)).outputs[0]
    a.type, a.shape = ir.TensorType(ir.DataType.FLOAT16), ir.Shape([1, 9])
    found = extract_graph(model, ["a"], ["b"])
    assert found.inputs == ("a:float16[a_dim0,a_dim1]",)
    assert any("dtype of 'a', float16 as declared" in note for note in found.notes)
    assert any("shape of 'a', 2 dimensions as declared" in note for note in found.notes)


@pytest.mark.parametrize(
    ("inputs", "outputs", "types", "message"),
    [
        (["aa"], ["y"], [], r"no value 'aa'.* Nearest: a"),
        (["a", "a"], ["y"], [], "input 'a' is named 2 times"),
        (["a"], ["y", "y"], [], "output 'y' is named 2 times"),
        (["a"], ["a"], [], "named as input and as output"),
        (["a"], ["x"], [], "is an input of the model"),
        (["a", "other"], ["y"], [], "reads 'other'"),
        (["a"], None, [], "output 'z' cannot be computed from a alone"),
        (["a", "other"], ["z"], [], "Nothing between the inputs and z reads 'a'"),
        ([], ["y"], [], "No input is named"),
        (["a"], ["y"], ["a:int8[n,4]"], "'a' is float32, not int8"),
        (["a"], ["y"], ["a:float32[n,5]"], r"'a' has the shape \[n, 4\]"),
        (["a"], ["y"], ["x:float32[n,4]"], "'x' has a type given"),
        (["a"], ["y"], ["a:float32[n,4]", "a:float32[n,4]"], "given two types"),
    ],
)
def test_mistakes_are_named_and_change_nothing(tmp_path, inputs, outputs, types, message):
    model = load(CHAIN, tmp_path)
    with pytest.raises(UsageError, match=message):
        extract_graph(model, inputs, outputs, types=[parse_spec(one) for one in types])
    assert len(model.graph) == 4
    assert [one.name for one in model.graph.outputs] == ["y", "z"]


def test_an_output_that_depends_on_no_input_is_refused_unless_named(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n] x) => (float[n] y, int64[2] z) {
  y = Relu(x)
  c = Constant<value_ints=[1,2]>()
  z = Neg(c)
}"""
    with pytest.raises(UsageError, match="'z' depends on none of x") as caught:
        extract_graph(load(text, tmp_path), ["x"])
    assert caught.value.hint == "Name the outputs: --outputs y"
    assert len(extract_graph(load(text, tmp_path), ["x"], ["y", "z"]).outputs) == 2


def test_values_inside_graphs_are_named_with_their_node(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
main (float[n] x, bool c) => (float[n] y) {
  a = own.F(x)
  y = If(c) <then_branch = t () => (p) { p = Abs(a) }, else_branch = e () => (q) { q = Neg(a) }>
}
<domain: "own", opset_import: ["" : 20]>
F (v) => (w) { w = Relu(v) }"""
    with pytest.raises(UsageError, match="inside a sub-graph") as caught:
        extract_graph(load(text, tmp_path), None, ["p"])
    assert "holds the graph: y" in caught.value.hint
    with pytest.raises(UsageError, match="inside a function"):
        extract_graph(load(text, tmp_path), None, ["w"])


def test_a_sequence_cannot_be_an_input_and_may_be_an_output(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[4] x) => (seq(float[2]) s, float[2] y) <int64[] two, int64[] first, seq(float[2]) q> {
  q = SplitToSequence(x, two)
  s = Identity(q)
  y = SequenceAt(q, first)
}"""
    weights = {"two": np.array(2), "first": np.array(0)}
    with pytest.raises(UsageError, match="an input must be a tensor"):
        extract_graph(load(text, tmp_path, weights), ["q"], ["y"])
    model = load(text, tmp_path, weights)
    assert extract_graph(model, ["x"], ["s"]).outputs[0].startswith("s:Sequence")
    saved(model, tmp_path)


def test_annotations_metadata_and_training_are_kept_or_said_to_go(tmp_path):
    proto = onnx.parser.parse_model(CHAIN.replace('"b/of c"', "b"))
    proto.metadata_props.add(key="author", value="me")
    proto.graph.node[1].metadata_props.add(key="line", value="net.py:3")
    for name in ("scale", "unread"):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), name))
    note = proto.graph.quantization_annotation.add(tensor_name="a")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    proto.training_info.add().algorithm.CopyFrom(onnx.GraphProto(name="train"))
    onnx.save(proto, tmp_path / "whole.onnx")
    model = load_graph(tmp_path / "whole.onnx")
    found = extract_graph(model, ["a"], ["y"])
    part = saved(model, tmp_path)
    assert [one.name for one in part.graph.initializer] == ["scale"]
    assert part.graph.quantization_annotation[0].tensor_name == "a"
    assert part.graph.node[0].metadata_props[0].value == "net.py:3"
    assert part.metadata_props[0].value == "me"
    assert not part.training_info
    assert any("training information" in one for one in found.notes)


def test_an_unsorted_graph_is_sorted(tmp_path):
    proto = onnx.parser.parse_model(CHAIN.replace('"b/of c"', "b"))
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, tmp_path / "unsorted.onnx")
    model = load_graph(tmp_path / "unsorted.onnx")
    assert extract_graph(model, ["a"], ["y"]).inputs == ("a:float32[n,4]",)
    saved(model, tmp_path)


def test_what_a_loop_inside_a_branch_reads_from_outside_is_fed(tmp_path, session):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[2] x, bool c, int64 trips) => (float[2] y) {
  a = Relu(x)
  b = Neg(x)
  y = If(c) <
    then_branch = t () => (p) {
      more = Constant<value: tensor = bool {1}>()
      p = Loop(trips, more, a) <body = l (int64 i, bool go, float[2] v) => (bool on, float[2] w) {
        on = Identity(go)
        w = Add(v, b)
      }>
    },
    else_branch = e () => (q) { q = Identity(a) }
  >
}"""
    model = load(text, tmp_path)
    found = extract_graph(model, ["b", "a", "trips", "c"], ["y"])
    assert found.inputs == ("b:float32[2]", "a:float32[2]", "trips:int64[]", "c:bool[]")
    saved(model, tmp_path)
    feeds = {
        "a": np.float32([1, 2]),
        "b": np.float32([10, 20]),
        "trips": np.array(3),
        "c": np.array(True),
    }
    (result,) = session(tmp_path / "part.onnx").run(None, feeds)
    assert result.tolist() == [31, 62]
