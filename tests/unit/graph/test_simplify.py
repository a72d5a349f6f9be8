"""The simplifier as a whole: guarantees, journal, limits."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from shipway.errors import ModelError, UsageError
from shipway.graph.passes.catalogue import ALL_RULES, PROFILES
from shipway.graph.simplify import SimplifyOptions, simplify_graph

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
CHAIN = (
    HEAD
    + """main (float[n,4] x) => (float[n,4] y) {
  a = Identity(x)
  b = Relu(a)
  c = Identity(b)
  d = Relu(a)
  e = Add(c, d)
  y = Identity(e)
}"""
)


def test_every_change_is_in_the_journal_and_leads_to_what_is_left(simplify):
    found = simplify(CHAIN)
    assert found.ops == ["Relu", "Add"]
    assert found.rules == {"remove_identities": 3, "merge_equal_nodes": 1}
    aliases = found.result.aliases
    assert aliases == {"a": "x", "c": "b", "d": "b", "e": "y"}
    assert found.result.to_json()["nodes_before"] == 6


@pytest.mark.parametrize("limit", range(5))
def test_a_limit_applies_the_first_changes_only(simplify, limit):
    whole = simplify(CHAIN).changes
    assert simplify(CHAIN, limit=limit).changes == whole[:limit]


def test_a_rule_that_is_skipped_is_not_used(simplify):
    found = simplify(CHAIN, skip=["merge_equal_nodes"])
    assert found.ops == ["Relu", "Relu", "Add"]


def test_an_unknown_profile_is_an_error():
    with pytest.raises(UsageError, match="no profile 'fast'"):
        simplify_graph(ir.from_onnx_text(CHAIN), SimplifyOptions(profile="fast"))


def test_every_rule_says_what_it_keeps():
    names = [rule.name for rule in ALL_RULES]
    assert len(set(names)) == len(names)
    assert all(rule.summary.endswith(".") for rule in ALL_RULES)
    assert all(bool(rule.assumes) == (rule.kind == "assumption") for rule in ALL_RULES)
    assert set(PROFILES) >= {"portable", "modern", "onnxruntime", "openvino", "tensorrt", "ascend"}


def test_metadata_goes_to_what_replaces_a_node(simplify):
    proto = onnx.parser.parse_model(
        HEAD
        + "main (float[n,4] x) => (float[n,5] y) <float[4,5] w, float[5] b> {\n"
        + "  m = MatMul(x, w)\n  y = Add(m, b)\n}"
    )
    proto.graph.node[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['fc']")
    proto.graph.node[1].name = "/fc/Add"
    weights = {"w": np.ones((4, 5), np.float32), "b": np.ones(5, np.float32)}
    (gemm,) = simplify(proto, weights=weights).proto.graph.node
    assert (gemm.op_type, gemm.name) == ("Gemm", "/fc/Add")
    assert gemm.metadata_props[0].value == "['fc']"


def test_a_declared_shape_that_is_false_is_not_trusted(simplify):
    proto = onnx.parser.parse_model(
        HEAD
        + "main (float[n,4] x, int64[2] s) => (float[p,q] y) {\n  a = Reshape(x, s)\n  y = Relu(a)\n}"
    )
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, ["n", 4]))
    graph = ir.serde.deserialize_model(proto)
    assert simplify_graph(graph).changes == ()


def test_what_a_caller_can_override_is_no_constant(simplify):
    proto = onnx.parser.parse_model(
        HEAD + "main (float[n,4] x, float[4] one) => (float[n,4] y) { y = Mul(x, one) }"
    )
    found = simplify(proto, weights={"one": np.ones(4, np.float32)})
    assert found.ops == ["Mul"]
    assert [value.name for value in found.proto.graph.input] == ["x", "one"]


def test_before_ir_version_4_initializers_are_inputs_and_stay_so(simplify):
    proto = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 8]>\n'
        "main (float[n,4] x, float[4] one) => (float[n,4] y) {\n"
        "  c = Constant <value = float[4] {1., 2., 3., 4.}> ()\n"
        "  a = Mul(x, one)\n  y = Add(a, c)\n}"
    )
    found = simplify(proto, weights={"one": np.ones(4, np.float32)})
    assert found.ops == ["Add"]
    inputs = [value.name for value in found.proto.graph.input]
    assert inputs[0] == "x"
    assert set(inputs[1:]) == {tensor.name for tensor in found.proto.graph.initializer}


def test_outputs_keep_their_names_whatever_computes_them(simplify):
    found = simplify(
        HEAD + "main (float[n] x) => (float[n] y, float[n] z, float[n] u) {\n"
        "  y = Identity(x)\n  z = Identity(x)\n  a = Relu(x)\n  u = Identity(a)\n}"
    )
    assert found.ops == ["Identity", "Identity", "Relu"]


def test_random_operators_stay_what_they_are():
    model = ir.from_onnx_text(
        HEAD + "main (float[n] x) => (float[n] y) {\n"
        "  a = RandomNormalLike(x)\n  b = RandomNormalLike(x)\n  y = Sub(a, b)\n}"
    )
    assert simplify_graph(model).changes == ()


def test_operators_of_other_domains_are_opaque():
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>\n'
        "main (float[n] x) => (float[n] y) {\n"
        "  a = mine.Count(x)\n  b = mine.Count(x)\n  y = Sub(a, b)\n}"
    )
    assert simplify_graph(model).changes == ()


BACKWARDS = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n] x) => (float[n] y) { a = Identity(x)  b = Neg(a)  y = Exp(b) }"""


def test_nodes_out_of_order_are_put_in_order():
    model = ir.from_onnx_text(BACKWARDS)
    nodes = list(model.graph)
    model.graph.remove(nodes)
    model.graph.extend(reversed(nodes))
    simplify_graph(model)
    assert [node.op_type for node in model.graph] == ["Neg", "Exp"]


def test_a_cycle_is_refused():
    model = ir.from_onnx_text(BACKWARDS)
    first, *_, last = model.graph
    first.replace_input_with(0, last.outputs[0])
    with pytest.raises(ModelError, match="has a cycle"):
        simplify_graph(model)


def test_the_documentation_lists_every_rule():
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "simplify-a-graph.md").read_text()
    names = {"exact": "every bit", "reassociating": "reassociating", "assumption": "assumption"}
    for rule in ALL_RULES:
        assert f"| `{rule.name}` | {names[rule.kind]} | {rule.summary}" in text


def test_new_nodes_get_names_of_their_own():
    """A node that is named like the first of those that come for another one keeps its name."""
    model = ir.from_onnx_text(
        HEAD + "main (float[n,2,4] x, float[n,4,3] z) => (float[n,2,3] y)"
        " <float s = {0.5}, float t = {0.25}> {\n"
        "  a = Mul(x, s)\n  b = Mul(z, t)\n  c = MatMul(a, b)\n  y = Relu(c)\n}"
    )
    for node in model.graph:
        node.name = {"MatMul": "product", "Relu": "product_0"}.get(node.op_type, node.op_type)
    assert "merge_scales" in simplify_graph(model).rules
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)


def test_a_rule_that_waits_for_a_constant_far_away_is_tried_again():
    """The scale is folded after the attention was looked at."""
    text = (
        '<ir_version: 11, opset_import: ["" : 23]>\n'
        "main (float[1,2,3,4] q, float[1,2,4,3] k, float[1,2,3,4] v) => (float[1,2,3,4] y)"
        " <float s = {0.25}> {\n"
        "  r = Sqrt(s)\n  c = Mul(q, r)\n  a = MatMul(c, k)\n  p = Softmax(a)\n  y = MatMul(p, v)\n}"
    )
    model = ir.from_onnx_text(text)
    simplify_graph(model, SimplifyOptions(profile="modern"))
    assert [node.op_type for node in model.graph] == ["Transpose", "Attention"]
    assert simplify_graph(model, SimplifyOptions(profile="modern")).changes == ()
