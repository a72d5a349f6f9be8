"""Calls of model-local functions are seen through, merged, and kept apart."""

import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from function_models import HEAD, body, rests, types

from shipway.errors import ModelError
from shipway.graph.loading import load_graph
from shipway.graph.simplify import count_nodes, simplify_graph


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


def test_training_might_call_a_function_with_another_dtype(tmp_path):
    text = (
        HEAD
        + "(float[n] x) => (float[n] y) { y = l.f(x) }"
        + body("f (a) => (r) { b = Cast<to=1>(a)  r = Relu(b) }")
    )
    proto = onnx.parser.parse_model(text)
    assert simplify_graph(ir.from_proto(proto)).rules == {"remove_identities": 1}
    proto.training_info.add().algorithm.node.add(op_type="f", domain="l", input=["d"], output=["z"])
    onnx.save(proto, tmp_path / "a.onnx")
    assert simplify_graph(load_graph(tmp_path / "a.onnx")).changes == ()


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


def test_functions_of_one_name_are_told_apart_by_their_overload():
    proto = onnx.parser.parse_model(
        HEAD + "(float[n] x) => (float[n] y) { a = l.f(x)  b = l.f(x)  y = Add(a, b) }"
        ""
        + body("f (a) => (r) { i = Identity(a)  r = Neg(i) }")
        + body("g (a) => (r) { i = Identity(a)  r = RandomNormalLike(i) }")
    )
    proto.functions[1].name, proto.functions[1].overload = "f", "random / 2"
    proto.graph.node[1].overload = "random / 2"
    model = ir.from_proto(proto)
    found = rests(model)
    assert [change.function for change in found.changes] == ["l::f", "l::f:random / 2"]
    assert types(model.graph) == ["f", "f", "Add"]


def test_a_graph_that_is_an_attribute_of_the_call_is_simplified_where_it_stands():
    text = (
        HEAD.replace('"l" : 1', '"l" : 1, "my.ops" : 1')
        + "(float[n] x, bool c) => (float[n] y) { a = l.f<g = t () => (float[n] u) { i = Identity(x)"
        "  u = my.ops.Count(i) }>(c)  b = l.f<g = t () => (float[n] u2) { u2 = my.ops.Count(x) }>(c)"
        "  y = Neg(x) }"
        + body("f <g> (c) => (r) { r = If(c) <then_branch: graph = @g, else_branch: graph = @g> }")
    )
    model = ir.from_onnx_text(text)
    found = rests(model)
    assert found.rules == {"remove_identities": 1}
    assert types(model.graph) == ["f", "f", "Neg"]
