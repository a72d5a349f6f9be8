"""Differences of models: what is told, and what is equal whatever it is called."""

import numpy as np
import onnx
import onnx.parser
import pytest

from shipway.errors import ModelError
from shipway.graph.diffing.models import diff_graphs
from shipway.graph.extracting import extract_graph
from shipway.graph.loading import load_graph

BASE = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,4] y, float[n,4] z) <float[4,4] w, float[4,4] v, float[4] b> {
  [first] h1 = MatMul(x, w)
  [second] h2 = MatMul(x, v)
  [bias] h3 = Add(h1, b)
  [act] h4 = LeakyRelu<alpha = 0.25>(h3)
  [join] h5 = Mul(h4, h2)
  [out] y = Neg(h5)
  [other] z = Abs(h2)
}"""


def weights(seed=0):
    generator = np.random.default_rng(seed)
    shapes = {"w": (4, 4), "v": (4, 4), "b": (4,)}
    return {key: generator.standard_normal(size).astype("f4") for key, size in shapes.items()}


def proto_of(text=BASE, arrays=None):
    proto = onnx.parser.parse_model(text)
    declared = {one.name for one in proto.graph.initializer}
    del proto.graph.initializer[:]
    for name, array in (weights() if arrays is None else arrays).items():
        if name in declared or arrays is not None or f" {name}" in text:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


@pytest.fixture
def diff(tmp_path):
    def run(before, after):
        paths = tmp_path / "before.onnx", tmp_path / "after.onnx"
        for path, one in zip(paths, (before, after), strict=True):
            onnx.save(proto_of(one) if isinstance(one, str) else one, path)
        return diff_graphs(*map(load_graph, paths))

    return run


def texts(result):
    """Return every difference on one line each."""
    found = [f"model {one}" for one in result.model]
    for graph in result.graphs:
        place = f"{graph.where} " if graph.where else ""
        found += [f"{place}{one}" for one in (*graph.signature, *graph.weights)]
        for node in graph.nodes:
            label = f"{place}{node.status} {node.op} {node.before or node.after}"
            found += [f"{label}: {one}" for one in node.details] or [label]
    return found


def test_a_model_equals_itself(diff):
    result = diff(BASE, BASE)
    assert result.is_equal
    assert result.counts == {"equal": 7}
    assert not result.operators


def test_the_order_of_nodes_and_initializers_is_no_difference(diff):
    proto = proto_of()
    generator = np.random.default_rng(0)
    nodes, arrays = list(proto.graph.node), list(proto.graph.initializer)
    for _ in range(5):
        nodes = [nodes[index] for index in generator.permutation(len(nodes))]
        arrays = [arrays[index] for index in generator.permutation(len(arrays))]
        other = onnx.ModelProto()
        other.CopyFrom(proto)
        del other.graph.node[:], other.graph.initializer[:]
        other.graph.node.extend(nodes)
        other.graph.initializer.extend(arrays)
        assert diff(proto, other).is_equal


def test_new_names_are_told_as_such(diff):
    proto = proto_of()
    for number, node in enumerate(proto.graph.node):
        node.name = f"node_{number}"
        for names in (node.input, node.output):
            names[:] = [name if name in {"x", "y", "z"} else f"new_{name}" for name in names]
    for tensor in proto.graph.initializer:
        tensor.name = f"new_{tensor.name}"
    result = diff(BASE, proto)
    assert not result.is_equal
    assert result.counts == {"equal": 0, "renamed": 7}
    assert "renamed MatMul first: output 0 name: h1 -> new_h1" in texts(result)
    assert "weight w: w -> new_w" in texts(result)
    assert result.computation().is_equal
    assert result.computation().counts == {"equal": 7}


def test_names_that_moved_on_do_not_mislead(diff):
    # An exporter numbers by position: a node at the front gives every other one the next name.
    chain = "".join(
        f"  [n{index}] v{index} = LeakyRelu<alpha={0.1 * (index % 3 + 1):.1f}>(v{index - 1})\n"
        for index in range(1, 9)
    )
    frame = (
        '<ir_version: 10, opset_import: ["" : 20]>\nmain (float[n] v0) => (float[n] {}) {{\n{}}}'
    )
    before = frame.format("v8", chain)
    moved = chain
    for index in range(8, 0, -1):
        moved = moved.replace(f"[n{index}] v{index} ", f"[n{index + 1}] v{index + 1} ")
        moved = moved.replace(f"(v{index})", f"(v{index + 1})")
    moved = "  [n1] v1 = Abs(v0)\n" + moved.replace("(v0)", "(v1)")
    result = diff(before, frame.format("v9", moved))
    assert result.operators == {"Abs": (0, 1)}
    assert result.computation().counts == {"equal": 7, "changed": 1, "added": 1}
    (changed, _) = result.computation().graphs[0].nodes
    assert (changed.before, changed.after) == ("n1", "n2")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("alpha = 0.25", "alpha = 0.5", ["changed LeakyRelu act: alpha: 0.25 -> 0.5"]),
        ("<alpha = 0.25>", "", ["changed LeakyRelu act: alpha: only before, 0.25"]),
        (
            "LeakyRelu<alpha = 0.25>(h3)",
            "Exp(h3)",
            ["act: operator: LeakyRelu -> Exp", "act: alpha: only before, 0.25"],
        ),
        ("Mul(h4, h2)", "Mul(h2, h4)", ["input 0: h4 -> h2", "input 1: h2 -> h4"]),
        ("Mul(h4, h2)", "Mul(h4, h3)", ["changed Mul join: input 1: h2 -> h3"]),
        ("MatMul(x, w)", "MatMul(x, v)", ["changed MatMul first: input 1: w -> v"]),
        ("float[n,4] y", "float[n,m] y", ["output y: float32[n,4] -> float32[n,m]"]),
        ("float[n,4] x", "float[7,4] x", ["input x: float32[n,4] -> float32[7,4]"]),
        (
            "float[n,4] y, float[n,4] z",
            "float[n,4] z, float[n,4] y",
            ["order of outputs: y, z -> z, y"],
        ),
        ('"" : 20', '"" : 19', ["model opset ai.onnx: 20 -> 19"]),
        ("ir_version: 10", "ir_version: 9", ["model ir version: 10 -> 9"]),
    ],
)
def test_a_change_is_told_once_and_alone(diff, old, new, expected):
    assert old in BASE
    found = texts(diff(BASE, BASE.replace(old, new)))
    assert len(found) == len(expected)
    for text, end in zip(found, expected, strict=True):
        assert text.endswith(end)


def test_an_output_of_another_node_is_told(diff):
    swapped = BASE.replace("y = Neg", "q = Neg").replace("z = Abs", "y = Abs")
    result = diff(BASE, swapped.replace("q = Neg", "z = Neg"))
    assert "output y computed by: Neg 'out' -> Abs 'other'" in texts(result)


def test_nodes_put_in_and_taken_out(diff):
    more = BASE.replace("[join] h5 = Mul(h4, h2)", "[e] h6 = Exp(h4)\n  [join] h5 = Mul(h6, h2)")
    result = diff(BASE, more)
    assert result.operators == {"Exp": (0, 1)}
    assert texts(result) == ["changed Mul join: input 0: h4 -> h6", "added Exp e"]
    signs = [(line.sign, line.text) for line in result.graphs[0].lines if line.sign != " "]
    assert signs == [("+", "h6 = Exp(h4)"), ("~", "h5 = Mul(h6, h2)")]
    back = diff(more, BASE)
    assert back.counts == {"equal": 6, "removed": 1, "changed": 1}


def test_a_replaced_node_is_listed_before_what_replaces_it(diff):
    text = BASE.replace("h3 = Add(h1, b)", "n = Neg(b)\n  [sub] h3 = Sub(h1, n)")
    lines = [line.sign for line in diff(BASE, text).graphs[0].lines if line.sign != " "]
    assert lines == ["+", "~"]


def test_an_attribute_at_its_default_is_none(diff):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,4] y) { y = Softmax ATTRIBUTE (x) }"""
    plain, given = text.replace("ATTRIBUTE", ""), text.replace("ATTRIBUTE", "<axis = -1>")
    assert diff(plain, given).is_equal
    assert not diff(plain, text.replace("ATTRIBUTE", "<axis = 0>")).is_equal


def test_numbers_that_look_equal_when_rounded_are_told_apart(diff):
    other = proto_of()
    other.graph.node[3].attribute[0].f = np.nextafter(np.float32(0.25), np.float32(1))
    found = texts(diff(BASE, other))
    assert found == ["changed LeakyRelu act: alpha: 0.25, they differ further on"]


def test_weights_that_differ_are_measured(diff):
    arrays = weights()
    arrays["b"] = arrays["b"] + np.float32([0, 0.5, 0, 0])
    arrays["v"] = arrays["v"].astype(np.float16)
    found = texts(diff(BASE, proto_of(BASE, arrays)))
    assert found == [
        "weight v: float32[4,4] -> float16[4,4]",
        "weight b: float32[4], 1 of 4 elements differ, by at most 0.5",
    ]


def test_equal_weights_under_exchanged_names_are_followed_by_their_readers(diff):
    arrays = weights()
    arrays["w"], arrays["v"] = arrays["v"], arrays["w"]
    text = BASE.replace("MatMul(x, w)", "MatMul(x, TEMP)").replace("MatMul(x, v)", "MatMul(x, w)")
    result = diff(BASE, proto_of(text.replace("TEMP", "v"), arrays))
    assert result.computation().is_equal, texts(result)


def test_a_constant_node_is_a_weight(diff):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,2,2] y) BODY"""
    node = text.replace("BODY", "{ s = Constant<value_ints=[-1,2,2]>() y = Reshape(x, s) }")
    weight = proto_of(text.replace("BODY", "<int64[3] q = {-1,2,2}> { y = Reshape(x, q) }"), {})
    weight.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 2, 2]), "q"))
    result = diff(node, weight)
    assert texts(result) == ["weight s: s -> q", "weight s: a Constant -> an initializer"]
    assert result.computation().is_equal
    other = node.replace("[-1,2,2]", "[-1,1,4]")
    assert texts(diff(node, other)) == ["weight s: int64[3], 2 of 3 elements differ, by at most 2"]


def test_branches_and_functions_are_compared_too(diff):
    text = """<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
main (float[n] x, bool c) => (float[n] y) {
  a = own.F(x)
  [choice] y = If(c) <
    then_branch = t () => (p) { [inner] p = LeakyRelu<alpha = 0.5>(a) },
    else_branch = e () => (q) { q = Neg(a) }
  >
}
<domain: "own", opset_import: ["" : 20]>
F (v) => (w) { [inside] w = Elu<alpha = 2.0>(v) }"""
    assert diff(text, text).is_equal
    found = texts(diff(text, text.replace("alpha = 0.5", "alpha = 0.75")))
    assert found == ["choice.then_branch changed LeakyRelu inner: alpha: 0.5 -> 0.75"]
    found = texts(diff(text, text.replace("alpha = 2.0", "alpha = 3.0")))
    assert found == ["function own::F changed Elu inside: alpha: 2 -> 3"]
    outside = text.replace("q = Neg(a)", "q = Neg(x)")
    assert any("choice.else_branch changed Neg" in one for one in texts(diff(text, outside)))
    renamed = text.replace("(p) { [inner] p", "(r) { [inner] r")
    assert diff(text, renamed).computation().is_equal
    other = text.replace("F (v)", "G (v)").replace("own.F", "own.G")
    found = texts(diff(text, other))
    assert "model function own::F: only before, 1 nodes" in found
    assert "model function own::G: only after, 1 nodes" in found


def test_metadata_is_told_and_can_be_left_out(diff):
    proto = proto_of()
    proto.metadata_props.add(key="author", value="me")
    proto.graph.node[0].metadata_props.add(key="line", value="net.py:3")
    proto.producer_name = "somebody"
    result = diff(BASE, proto)
    assert texts(result) == [
        "model producer name:  -> somebody",
        "model metadata author: only after, me",
        "annotated MatMul first: metadata line: only after, net.py:3",
    ]
    assert result.computation().is_equal


def test_inputs_and_outputs_that_come_go_or_are_renamed(diff):
    more = BASE.replace("(float[n,4] x)", "(float[n,4] x, int64[2] extra)")
    assert texts(diff(BASE, more)) == ["input extra: only after, int64[2]"]
    assert texts(diff(more, BASE)) == ["input extra: only before, int64[2]"]
    renamed = BASE.replace("float[n,4] x)", "float[n,4] image)").replace("(x,", "(image,")
    result = diff(BASE, renamed)
    assert texts(result) == ["input x: x -> image"]
    assert not result.computation().is_equal  # who calls the model has to know
    fewer = BASE.replace(", float[n,4] z", "").replace("  [other] z = Abs(h2)\n", "")
    assert texts(diff(BASE, fewer)) == ["output z: only before, float32[n,4]", "removed Abs other"]


def test_a_part_stands_where_it_was_cut_out(tmp_path):
    # Every node is like every other one: only the names at the cuts tell which are left.
    layers = "".join(f"  h{index + 1} = MatMul(h{index}, w{index})\n" for index in range(9))
    text = (
        '<ir_version: 10, opset_import: ["" : 20]>\n'
        f"main (float[n,4] h0) => (float[n,4] h9) {{\n{layers}}}"
    )
    arrays = {f"w{index}": np.full((4, 4), index, "f4") for index in range(9)}
    onnx.save(proto_of(text, arrays), tmp_path / "whole.onnx")
    part = load_graph(tmp_path / "whole.onnx")
    extract_graph(part, ["h2"], ["h7"])
    result = diff_graphs(load_graph(tmp_path / "whole.onnx"), part)
    assert result.counts == {"equal": 5, "removed": 4}
    found = texts(result)
    assert found[:4] == [
        "input h0: only before, float32[n,4]",
        "input h2: only after, float32[n,4]",
        "output h9: only before, float32[n,4]",
        "output h7: only after, float32[n,4]",
    ]
    back = diff_graphs(part, load_graph(tmp_path / "whole.onnx"))
    assert back.counts == {"equal": 5, "added": 4}


def test_weights_that_old_files_list_as_inputs_are_none(diff):
    proto, other = proto_of(), proto_of()
    for one in (proto, other):
        one.ir_version = 3
    for name, size in (("w", [4, 4]), ("v", [4, 4]), ("b", [4])):
        kind = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        proto.graph.input.append(kind)
        other.graph.input.append(kind)
    other.graph.input[1].name = other.graph.initializer[0].name = "kernel"
    other.graph.node[0].input[1] = "kernel"
    assert texts(diff(proto, other)) == ["weight w: w -> kernel"]


def test_an_empty_and_a_scalar_tensor_and_texts(diff):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n] x) => (float[n] y, string[1] t) <float e, float[0] f> {
  y = Add(x, e)
  t = Constant<value_strings = ["LABEL"]>()
}"""
    arrays = {"e": np.array(1, "f4"), "f": np.zeros(0, "f4")}
    before = proto_of(text, arrays)
    assert diff(before, proto_of(text, arrays)).is_equal
    other = proto_of(text.replace("LABEL", "other"), arrays | {"e": np.array(np.nan, "f4")})
    found = texts(diff(before, other))
    assert "weight e: float32[], 1 of 1 elements differ, by at most 0; NaN or Inf at 1" in found[0]
    assert any("LABEL" in one and "other" in one for one in found)


def test_a_cycle_is_refused(diff):
    proto = proto_of()
    proto.graph.node[0].input[0] = "h4"
    with pytest.raises(ModelError, match="cycle"):
        diff(BASE, proto)
