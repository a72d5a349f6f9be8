"""Bodies of model-local functions are simplified, and their calls seen through."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from shipway.errors import ModelError
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, count_nodes, simplify_graph

HEAD = '<ir_version: 10, opset_import: ["" : 20, "l" : 1]>\nmain '


def body(text, opset=20):
    return f'\n<domain: "l", opset_import: ["" : {opset}, "l" : 1]> {text}'


def rests(model, **options):
    """Simplify a model that ONNX Runtime need not run; a second time changes nothing."""
    found = simplify_graph(model, SimplifyOptions(**options))
    assert not simplify_graph(model, SimplifyOptions(**options)).changes
    return found


def types(graph):
    return [node.op_type for node in graph]


def test_a_body_is_simplified_without_knowing_its_inputs(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,4] y) { y = l.f(x) }"
        "" + body("f (a) => (r) { i = Identity(a)  b = Relu(i)  c = Relu(a)  r = Add(b, c) }")
    )
    assert found.bodies == {"f": ["Relu", "Add"]}
    assert {change.function for change in found.changes} == {"l::f"}
    assert found.result.to_json()["changes"][0]["function"] == "l::f"
    assert (found.result.nodes_before, found.result.nodes_after) == (5, 3)


def test_names_inside_a_function_are_not_those_of_the_graph(simplify):
    found = simplify(
        HEAD + "(float[n] x) => (float[n] i) { a = Relu(x)  i = l.f(a) }"
        "" + body("f (x) => (a) { i = Identity(x)  a = Neg(i) }")
    )
    assert found.changes[0].alias == {"i": "x"}
    assert found.result.aliases == {}
    assert found.result.fates == {}


def test_what_the_only_call_says_is_known_inside(simplify):
    text = (
        HEAD
        + "(float[n,4] x) => (float[n,4] y) { y = l.f(x) }"
        + body("f (a) => (r) { s = Shape(a)  b = Relu(a)  c = Reshape(b, s)  r = Cast<to=1>(c) }")
    )
    assert simplify(text).bodies == {"f": ["Relu"]}


def test_calls_must_agree_on_what_is_taken_for_known(simplify):
    text = (
        HEAD + "(float[n,4] x, double[4] z) => (float[n,4] y, float[4] w) {"
        " y = l.f(x)  w = l.f(z) }"
        "" + body("f (a) => (r) { b = Cast<to=1>(a)  c = Cast<to=1>(b)  r = Relu(c) }")
    )
    assert simplify(text).bodies == {"f": ["Cast", "Relu"]}


def test_sizes_that_are_equal_in_every_call_are_equal_inside(simplify):
    text = (
        HEAD + "(float[n,4] x, float[m,4] z) => (float[n,4] y, float[m,4] w) {"
        " v = Neg(x)  y = l.f(x, v)  u = Neg(z)  w = l.f(z, u) }"
        "" + body("f (a, b) => (r) { s = Shape(b)  c = Relu(a)  r = Reshape(c, s) }")
    )
    assert simplify(text).bodies == {"f": ["Relu"]}
    other = text.replace("u = Neg(z)  w = l.f(z, u)", "u = Flatten<axis=2>(z)  w = l.f(z, u)")
    assert simplify(other).bodies == {"f": ["Shape", "Relu", "Reshape"]}


def test_shapes_are_known_behind_a_call(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,4] y) { a = l.f<p = [1, 0]>(x)  b = l.f<p = [1, 0]>(a)"
        "  s = Shape(x)  c = Reshape(b, s)  y = Cast<to=1>(c) }"
        "" + body("f <p> (a) => (r) { r = Transpose<perm: ints = @p>(a) }")
    )
    assert found.ops == ["f", "f"]


def test_sizes_that_depend_on_data_differ_from_call_to_call(simplify):
    text = (
        HEAD + "(float[n] x, float[n] z) => (int64[p] y, int64[q] w, bool[1] e) {"
        " y = l.f(x)  w = l.f(z)  s = Shape(y)  t = Shape(w)  e = Equal(s, t) }"
        ""
        + body(
            "f (a) => (r) { n = NonZero(a)  m = Constant<value_ints = [-1]>()  r = Reshape(n, m) }"
        )
    )
    assert "Equal" in simplify(text).ops


def test_an_attribute_of_the_call_is_unknown_inside(simplify):
    text = (
        HEAD + "(float[4,4] x) => (float[4,4] y, float[4,4] z) {"
        " y = l.f<p = [1, 0]>(x)  z = l.f<p = [0, 1]>(x) }"
        ""
        + body(
            "f <p> (a) => (r) { b = Transpose<perm: ints = @p>(a)  c = Transpose<perm = [1, 0]>(b)"
            "  d = Transpose<perm: ints = @p>(a)  r = Add(c, d) }"
        )
    )
    assert simplify(text).bodies == {"f": ["Transpose", "Transpose", "Add"]}


def test_a_default_of_an_attribute_holds_where_the_call_gives_none():
    text = (
        HEAD
        + "(float[n,4] x) => (float y) { a = l.f(x)  b = Cast<to=1>(a)  y = ReduceSum<keepdims=0>(b) }"
        "" + body("f <to: int = 1> (a) => (r) { r = Cast<to: int = @to>(a) }")
    )
    model = ir.from_onnx_text(text)
    assert rests(model).rules == {"remove_identities": 1}


def test_an_attribute_that_is_left_out_is_no_error():
    text = (
        HEAD
        + "(float[n] x) => (float[n] y) { y = l.f(x) }"
        + body("f <to> (a) => (r) { b = Cast<to: int = @to>(a)  c = Identity(b)  r = Neg(c) }")
    )
    assert rests(ir.from_onnx_text(text)).rules == {"remove_identities": 1}


def test_a_rule_needs_the_opset_of_the_function():
    gelu = (
        "f (x) => (r) { k = Constant<value_float = 1.4142135>()  one = Constant<value_float = 1.0>()"
        "  h = Constant<value_float = 0.5>()  d = Div(x, k)  e = Erf(d)  a = Add(e, one)"
        "  m = Mul(x, a)  r = Mul(m, h) }"
    )
    head = HEAD + "(float[n] x) => (float[n] y) { y = l.f(x) }"
    new, old = (ir.from_onnx_text(head + body(gelu, opset)) for opset in (20, 18))
    assert "fuse_gelus" in rests(new).rules
    assert "fuse_gelus" not in rests(old).rules


def test_functions_inside_functions_and_branches(simplify):
    text = (
        HEAD + "(float[n,4] x, bool c) => (float[n,4] y) {"
        " y = If(c) <then_branch = t () => (float[n,4] u) { u = l.f(x) },"
        " else_branch = e () => (float[n,4] v) { w = Identity(x)  v = l.g(w) }> }"
        ""
        + body("f (a) => (r) { b = Identity(a)  r = l.g(b) }")
        + body("g (a) => (r) { s = Shape(a)  b = Neg(a)  r = Reshape(b, s) }")
    )
    found = simplify(text)
    assert found.ops == ["If", "f", "g"]
    assert found.bodies == {"f": ["g"], "g": ["Neg"]}


def test_what_is_inside_a_branch_and_a_loop_of_a_function(simplify):
    text = (
        HEAD + "(float[n,4] x, bool c) => (float[?,?] y) { y = l.f(x, c) }"
        ""
        + body(
            "f (a, c) => (r) { n = Constant<value_int = 3>()  t = Constant<value = bool {1}>()"
            "  s = Shape(a)  q = Loop(n, t, a) <body = b (int64 i, bool g, float[?,?] v) =>"
            " (bool h, float[?,?] w) { h = Identity(g)  k = Constant<value_float = 2.0>()"
            "  m = Mul(v, k)  w = Reshape(m, s) }>"
            "  r = If(t) <then_branch = t () => (float[?,?] u) { z = Constant<value_float = 2.0>()  u = Mul(q, z) },"
            " else_branch = e () => (float[?,?] v2) { v2 = Neg(q) }> }"
        )
    )
    found = simplify(text)
    assert sorted(found.bodies["f"]) == ["Constant"] * 3 + ["Identity", "Loop", "Mul", "Mul"]


def test_a_body_does_not_grow_by_its_constants(simplify):
    """A constant target would be one more node beside the shape, which is read elsewhere too."""
    text = (
        HEAD + "(float[n,4,6] x) => (float[n,24] y, int64[2] s) { y, s = l.f(x) }"
        ""
        + body(
            "f (a) => (r, s) { z = Constant<value_ints = [0]>()  q = Shape(a)  k = Constant<value_ints = [24]>()"
            "  b = Gather(q, z)  s = Concat<axis = 0>(b, k)  r = Reshape(a, s) }"
        )
    )
    found = simplify(text)
    assert found.result.nodes_after <= found.result.nodes_before
    assert found.bodies["f"].count("Constant") == 2


def test_constants_are_folded_and_shared_as_nodes(simplify):
    text = (
        HEAD + "(float[n,3] x) => (float[n,3] y) { y = l.f(x) }"
        ""
        + body(
            "f (a) => (r) { k = Constant<value_floats = [1.0, 2.0, 3.0]>()  m = Neg(k)  b = Mul(a, m)"
            "  k2 = Constant<value = float[3] {1.0, 2.0, 3.0}>()  m2 = Neg(k2)  r = Add(b, m2) }"
        )
    )
    assert simplify(text).bodies == {"f": ["Constant", "Mul", "Add"]}


def test_constants_of_texts_are_left_alone():
    text = (
        HEAD
        + "(float[n] x) => (string[1] y) { y = l.f(x) }"
        + body(
            'f (a) => (r) { k = Constant<value_strings = ["a"]>()  m = Constant<value_strings = ["a"]>()'
            "  r = StringConcat(k, m) }"
        )
    )
    model = ir.from_onnx_text(text)
    rests(model)
    (function,) = model.functions.values()
    assert types(function)[-1] == "StringConcat"


def test_an_input_that_a_call_leaves_out(simplify):
    text = (
        HEAD + "(float[n] x) => (float[n] y, float[n] z) <float low = {-1}> {"
        " y = l.f(x)  z = l.f(x, low) }"
        ""
        + body("f (a, b) => (r) { c = Identity(a)  d = Clip(c, b)  e = Cast<to=1>(d)  r = Neg(e) }")
    )
    assert simplify(text).bodies == {"f": ["Clip", "Neg"]}


def test_an_output_that_nobody_reads_keeps_its_place(simplify):
    text = (
        HEAD + "(float[n] x) => (float[n] y) { a, b = l.f(x)  y = Identity(b) }"
        "" + body("f (a) => (p, q) { p = Neg(a)  q = Relu(a) }")
    )
    found = simplify(text)
    (call,) = found.proto.graph.node
    assert list(call.output) == ["a", "y"]
    assert list(found.proto.functions[0].output) == ["p", "q"]


def test_equal_calls_are_merged_unless_they_draw(simplify):
    text = (
        HEAD + "(float[n] x) => (float[n] y) { a = l.f(x)  b = l.f(x)  y = Sub(a, b) }"
        "" + body("f (a) => (r) { r = Neg(a) }")
    )
    assert simplify(text).ops == ["f", "Sub"]
    drawing = text.replace("r = Neg(a)", "r = RandomNormalLike(a)")
    assert rests(ir.from_onnx_text(drawing)).changes == ()
    inside = drawing.replace(
        "r = R", "t = Constant<value = bool {1}>()  b, m = Dropout(a, , t)  r = R"
    )
    assert rests(ir.from_onnx_text(inside)).rules == {"remove_unread_nodes": 1}


def test_calls_of_a_function_with_an_opaque_operator_are_left_alone():
    text = (
        HEAD.replace('"l" : 1', '"l" : 1, "my.ops" : 1')
        + "(float[n] x) => (float[n] y) { a = l.f(x)  b = l.f(x)  u = l.f(x)  y = Sub(a, b) }"
        + body("f (a) => (r) { i = Identity(a)  r = my.ops.Count(i) }")
    )
    found = rests(ir.from_onnx_text(text))
    assert [(change.rule, change.function) for change in found.changes] == [
        ("remove_identities", "l::f")
    ]
    declared = rests(ir.from_onnx_text(text), pure=frozenset({"my.ops::Count"}))
    assert declared.rules == {"merge_equal_nodes": 2, "remove_identities": 1}
    assert declared.assumes == (
        "my.ops::Count gives the same outputs for the same inputs, and does nothing else",
    )


def test_a_function_whose_last_call_goes_is_dropped_and_one_nobody_called_stays(simplify):
    text = (
        HEAD + "(float[n] x) => (float[n] y) { a = l.f(x)  y = Neg(x) }"
        ""
        + body("f (a) => (r) { r = l.g(a) }")
        + body("g (a) => (r) { r = Relu(a) }")
        + body("kept (a) => (r) { r = l.h(a) }")
        + body("h (a) => (r) { r = Relu(a) }")
    )
    found = simplify(text)
    assert set(found.bodies) == {"kept", "h"}
    dropped = [change.node for change in found.changes if change.rule == "drop_uncalled_functions"]
    assert dropped == ["l::f", "l::g"]
    assert set(simplify(text, skip=["drop_uncalled_functions"]).bodies) == {"f", "g", "kept", "h"}


def test_nothing_is_dropped_that_training_might_call(tmp_path):
    text = (
        HEAD
        + "(float[n] x) => (float[n] y) { a = l.f(x)  y = Neg(x) }"
        + body("f (a) => (r) { r = Relu(a) }")
    )
    proto = onnx.parser.parse_model(text)
    proto.training_info.add().algorithm.node.add(op_type="f", domain="l", input=["x"], output=["z"])
    onnx.save(proto, tmp_path / "a.onnx")
    model = load_graph(tmp_path / "a.onnx")
    assert "drop_uncalled_functions" not in simplify_graph(model).rules
    assert len(model.functions) == 1


def test_functions_that_call_each_other_in_a_circle_are_refused():
    text = (
        HEAD + "(float[n] x) => (float[n] y) { y = l.f(x) }"
        "" + body("f (a) => (r) { r = l.g(a) }") + body("g (a) => (r) { r = l.f(a) }")
    )
    with pytest.raises(ModelError, match=r"in a circle: l::(f|g) -> l::(f|g) -> l::(f|g)\."):
        simplify_graph(ir.from_onnx_text(text))


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_function_named_like_an_operator_of_onnx_is_neither(domain):
    """Runtimes do not agree on which of the two is called."""
    text = (
        HEAD + "(float[n] x) => (float[n] y) { a = Relu(x)  b = Relu(x)  u = Relu(b)"
        "  i = Identity(a)  y = Add(i, b) }"
        '\n<domain: "l", opset_import: ["" : 20]> Relu (a) => (r) { i = Identity(a)  r = Neg(i) }'
    )
    proto = onnx.parser.parse_model(text)
    proto.functions[0].domain = domain
    for node in proto.graph.node:
        node.domain = domain
    model = ir.from_proto(proto)
    found = rests(model)
    assert types(model.graph) == ["Relu", "Relu", "Relu", "Add"]
    assert {node.domain for node in model.graph} == {""}
    assert found.rules == {"remove_identities": 2}


def test_an_operator_onnx_does_not_know_in_its_domain_is_a_custom_one():
    text = (
        HEAD + "(float[n] x) => (float[n] y) { a = Blend_TRT(x)  b = Blend_TRT(x)  u = Blend_TRT(b)"
        "  y = Add(a, b) }"
    )
    assert rests(ir.from_onnx_text(text)).changes == ()
    declared = rests(ir.from_onnx_text(text), pure=frozenset({"::Blend_TRT"}))
    assert declared.rules == {"merge_equal_nodes": 1, "remove_unread_nodes": 1}


def test_metadata_stays_with_what_replaces_a_node():
    proto = onnx.parser.parse_model(
        HEAD + "(float[n,4] x, float[4,5] w) => (float[n,5] y) { y = l.f(x, w) }"
        ""
        + body(
            "f (a, w) => (r) { k = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0]>()"
            "  m = MatMul(a, w)  r = Add(m, k) }"
        )
    )
    proto.functions[0].metadata_props.add(key="made by", value="hand")
    proto.functions[0].doc_string = "a layer"
    proto.functions[0].node[2].name = "/fc/Add"
    proto.functions[0].node[2].metadata_props.add(key="scope", value="fc")
    model = ir.from_proto(proto)
    assert rests(model).rules == {"fuse_matmul_adds": 1}
    function = ir.to_proto(model).functions[0]
    gemm = function.node[-1]
    assert (gemm.op_type, gemm.name, gemm.metadata_props[0].value) == ("Gemm", "/fc/Add", "fc")
    assert (function.doc_string, function.metadata_props[0].value) == ("a layer", "hand")


NESTED = (
    HEAD + "(float[n,4] x) => (float[n,4] y) { a = Identity(x)  b = l.f(a)  y = Identity(b) }"
    ""
    + body("f (a) => (r) { i = Identity(a)  b = l.g(i)  r = Identity(b) }")
    + body("g (a) => (r) { i = Identity(a)  s = Shape(i)  b = Neg(i)  r = Reshape(b, s) }")
)


@pytest.mark.parametrize("limit", range(7))
def test_a_limit_makes_the_first_changes_wherever_they_are(simplify, limit):
    whole = simplify(NESTED).changes
    assert [change.function for change in whole] == ["", "", "l::f", "l::f", "l::g", "l::g"]
    assert simplify(NESTED, limit=limit).changes == whole[:limit]


def test_a_long_chain_and_a_wide_tree_of_calls_take_no_time():
    chain, tree = (HEAD + "(float[n] x) => (float[n] y) { y = l.f0(x) }" for _ in range(2))
    for index in range(300):
        chain += body(f"f{index} (a) => (r) {{ i = Identity(a)  r = l.f{index + 1}(i) }}")
    chain += body("f300 (a) => (r) { r = Neg(a) }")
    for index in range(40):
        tree += body(
            f"f{index} (a) => (r) {{ c = Concat<axis = 0>(a, a)  b = l.f{index + 1}(a)"
            f"  d = l.f{index + 1}(c)  r = Concat<axis = 0>(b, d) }}"
        )
    tree += body("f40 (a) => (r) { r = Neg(a) }")
    model = ir.from_onnx_text(chain)
    assert rests(model).rules == {"remove_identities": 300}
    assert count_nodes(model) == 302
    assert rests(ir.from_onnx_text(tree)).changes == ()


def test_weights_inside_a_function_may_lie_in_another_file(tmp_path, session):
    text = (
        HEAD
        + "(float[n,64] x) => (float[n,32] y) { y = l.f(x) }"
        + body("f (a) => (r) { k = Identity(a)  r = MatMul(k, t) }")
    )
    proto = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    made = onnx.helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight))
    turned = onnx.helper.make_node("Transpose", ["w"], ["t"])
    nodes = [made, turned, *proto.functions[0].node]
    del proto.functions[0].node[:]
    proto.functions[0].node.extend(nodes)
    onnx.save(proto, tmp_path / "plain.onnx")
    onnx.save(
        proto,
        tmp_path / "before.onnx",
        save_as_external_data=True,
        convert_attribute=True,
        size_threshold=0,
        location="w.bin",
    )
    model = load_graph(tmp_path / "before.onnx")
    found = simplify_graph(model)
    save_graph(model, tmp_path / "after.onnx")
    assert found.rules == {"remove_identities": 1, "fold_constants": 1}
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)}
    golden, actual = (
        session(tmp_path / f"{one}.onnx").run(None, feeds)[0] for one in ("plain", "after")
    )
    np.testing.assert_allclose(actual, golden, rtol=1e-5)
