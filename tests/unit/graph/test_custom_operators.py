"""Custom operators: their shape rules are asked, and they are left alone unless declared pure."""

import onnx_ir as ir
import pytest
import torch

from shipway.errors import UsageError
from shipway.graph.simplify import SimplifyOptions, simplify_graph
from shipway.ops import custom_op

HEAD = '<ir_version: 10, opset_import: ["" : 20, "simplified" : 1, "shipway" : 1, "my.ops" : 1]>\nmain '


@custom_op("simplified::rows", schema="(Tensor x, int k=1) -> Tensor", types="T->T", pure=True)
def repeated_rows(x, k):
    return torch.cat([x] * k)


@custom_op("simplified::mask", schema="(Tensor x, Tensor? y) -> Tensor", types="TT->l")
def mask_of(x, y):
    return torch.zeros(x.shape[0], 2, dtype=torch.int64)


@custom_op("simplified::capped", schema="(Tensor x) -> Tensor", types="T->T", pure=True)
def capped_rows(x):
    return x[: min(x.shape[0], 300)].clone()


def rests(text, **options):
    """Simplify a model; a second time changes nothing, and a second model comes out the same."""
    model, twin = ir.from_onnx_text(HEAD + text), ir.from_onnx_text(HEAD + text)
    options = SimplifyOptions(**{name: frozenset(value) for name, value in options.items()})
    found = simplify_graph(model, options)
    assert simplify_graph(twin, options).changes == found.changes
    assert not simplify_graph(model, options).changes
    return [node.op_type for node in model.graph], found


def test_what_follows_an_operator_is_simplified_by_its_shape_rule():
    types, _ = rests(
        "(float[n,4] x) => (float[?,?] y) <int64[1] z = {0}, int64[1] two = {2}, int64[1] four = {4}> {"
        " a = simplified.Rows<k = 2>(x)  s = Shape(x)  n = Gather(s, z)  m = Mul(n, two)"
        "  t = Concat<axis = 0>(m, four)  b = Reshape(a, t)  y = Cast<to = 1>(b) }"
    )
    assert types == ["Rows"]


def test_a_default_is_an_attribute_too_and_an_absent_input_is_none():
    types, _ = rests(
        "(float[n,4] x) => (float[?,?] y, int64[?,?] m) { a = simplified.Rows(x)  s = Shape(x)"
        "  y = Reshape(a, s)  b = simplified.Mask(x)  m = Cast<to = 7>(b) }"
    )
    assert types == ["Rows", "Mask"]


def test_a_rule_that_branches_on_a_size_is_not_believed():
    types, _ = rests(
        "(float[n,4] x) => (float[?,?] y) { a = simplified.Capped(x)  s = Shape(a)"
        "  b = Expand(x, s)  y = Add(a, b) }"
    )
    assert types == ["Capped", "Shape", "Expand", "Add"]


def test_sizes_that_depend_on_data_are_those_of_one_call():
    boxes = "(float[n,4] x, float[n] c) => (int64[?] y) {"
    nms = "shipway.Nms<iou_threshold = 0.5>"
    same, _ = rests(f"{boxes} a = {nms}(x, c)  b = Neg(a)  s = Shape(a)  y = Expand(b, s) }}")
    assert same == ["Nms", "Neg"]
    other, _ = rests(
        "(float[n,4] x, float[n] c, float[n] d) => (int64[?] y) {"
        f" a = {nms}(x, c)  b = {nms}(x, d)  s = Shape(a)  y = Expand(b, s) }}"
    )
    assert other == ["Nms", "Nms", "Shape", "Expand"]


def test_nothing_is_taken_for_known_of_inputs_of_unknown_shape():
    types, _ = rests(
        "(float[n,4] x) => (float[?,?] y) { a = my.ops.Blend(x)  b = simplified.Rows(a)"
        "  c = Cast<to = 1>(b)  s = Shape(x)  y = Expand(c, s) }"
    )
    assert types == ["Blend", "Rows", "Cast", "Shape", "Expand"]


def test_equal_calls_are_merged_and_unread_ones_go_where_the_definition_says_pure():
    types, found = rests(
        "(float[n,4] x) => (float[?,?] y) { a = simplified.Rows(x)  b = simplified.Rows(x)"
        "  c = simplified.Rows<k = 2>(x)  y = Add(a, b) }"
    )
    assert types == ["Rows", "Add"]
    assert found.assumes == ()


OPAQUE = (
    "(float[n,4] x, bool q) => (float[n,4] y) { a = my.ops.Blend(x)  b = my.ops.Blend(x)"
    "  c = my.ops.Blend(a)  d = Relu(c)  e = If(q) <then_branch = t () => (float[?,?] u)"
    " { u = my.ops.Blend(x) }, else_branch = f () => (float[?,?] v) { v = Neg(x) }>  y = Add(a, b) }"
)


def test_others_are_left_alone_unread_ones_too():
    types, found = rests(OPAQUE)
    assert types == ["Blend", "Blend", "Blend", "If", "Add"]
    assert [change.op for change in found.changes] == ["Relu"]


def test_the_caller_may_declare_an_operator_pure_and_that_is_noted():
    types, found = rests(OPAQUE, pure=["my.ops::Blend"])
    assert types == ["Blend", "Add"]
    (assumption,) = found.assumes
    assert assumption.startswith("my.ops::Blend gives the same outputs")


def test_an_opaque_operator_stays_where_only_its_shape_was_read():
    types, _ = rests(
        "(float[n,4] x) => (float[?,?] y) { a = my.ops.Blend(x)  b = Shape(a)  c = Size(b)  y = Neg(x) }"
    )
    assert types == ["Blend", "Neg"]


def test_no_operator_is_folded_whatever_is_declared():
    types, _ = rests(
        "(float[n] x) => (float[?] y) <float[2] k = {1, 2}> { a = simplified.Rows(k)"
        "  b = my.ops.Blend(k)  c = Add(a, b)  y = Add(x, c) }",
        pure=["my.ops::Blend"],
    )
    assert types == ["Rows", "Blend", "Add", "Add"]


@pytest.mark.parametrize("name", ["Blend", "my.ops::", "::Relu", "ai.onnx::RandomNormal"])
def test_a_name_that_cannot_be_declared_pure_is_refused(name):
    with pytest.raises(UsageError) as caught:
        rests(OPAQUE, pure=[name])
    assert caught.value.hint


def test_a_declared_operator_that_is_not_there_is_said(caplog):
    rests("(float[n] x) => (float[n] y) { y = Neg(x) }", pure=["my.ops::Blend"])
    assert "my.ops::Blend is declared pure, but no node" in caplog.text
