"""Bodies of model-local functions are simplified."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from function_models import HEAD, body, rests, types

from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import simplify_graph


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


def test_a_constant_in_a_branch_of_a_function_may_lie_in_another_file(
    tmp_path, session, monkeypatch
):
    text = (
        HEAD
        + "(float[n,64] x, bool c) => (float[n,64] y) { y = l.f(x, c) }"
        + body(
            "f (a, c) => (r) { r = If(c) <then_branch = t () => (float[?,?] u) { i = Identity(a)"
            "  u = Neg(i) }, else_branch = e () => (float[?,?] v) { v = Mul(a, a) }> }"
        )
    )
    proto = onnx.parser.parse_model(text)
    weight = onnx.numpy_helper.from_array(np.arange(64, dtype=np.float32))
    branch = proto.functions[0].node[0].attribute[1].g
    nodes = [onnx.helper.make_node("Constant", [], ["w"], value=weight), *branch.node]
    del branch.node[:]
    branch.node.extend(nodes)
    branch.node[1].input[1] = "w"
    onnx.save(proto, tmp_path / "plain.onnx")
    data = proto.functions[0].node[0].attribute[1].g.node[0].attribute[0].t
    (tmp_path / "w.bin").write_bytes(data.raw_data)
    data.ClearField("raw_data")
    data.data_location = onnx.TensorProto.EXTERNAL
    data.external_data.add(key="location", value="w.bin")
    onnx.save(proto, tmp_path / "before.onnx")
    model = load_graph(tmp_path / "before.onnx")
    monkeypatch.chdir("/")
    assert simplify_graph(model).rules == {"remove_identities": 1}
    save_graph(model, tmp_path / "after.onnx")
    feeds = {"x": np.ones((3, 64), np.float32), "c": np.array(False)}
    golden, actual = (
        session(tmp_path / f"{one}.onnx").run(None, feeds)[0] for one in ("plain", "after")
    )
    assert golden.tobytes() == actual.tobytes()


def test_empty_and_scalar_constants_in_a_body(simplify):
    text = (
        HEAD + "(float[n] x) => (float[n] y, float[0] z) { y, z = l.f(x) }"
        ""
        + body(
            "f (a) => (r, z) { e = Constant<value = float[0] {}>()  f = Constant<value = float[0] {}>()"
            "  z = Concat<axis = 0>(e, f)  k = Constant<value_float = 2.0>()  m = Neg(k)  r = Mul(a, m) }"
        )
    )
    assert sorted(simplify(text).bodies["f"]) == ["Concat", "Constant", "Constant", "Mul"]
