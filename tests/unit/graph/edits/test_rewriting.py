"""Patterns, written as functions and as text."""

import numpy as np
import pytest

from shipway.errors import UsageError
from shipway.graph.editing import rewrite

LINEAR = """
g (float[2,3] x, float[3,4] w, float[4] b) => (float[2,4] y)
{ [m] m = MatMul(x, w) [a] y = Add(m, b) }
"""


def feeds(lab):
    return {"x": lab.numbers(2, 3), "w": lab.numbers(3, 4), "b": lab.numbers(4)}


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("c = MatMul(a, b); d = Add(c, bias)", "d = Gemm(a, b, bias)"),
        (
            lambda op, a, b, bias: op.Add(op.MatMul(a, b), bias),
            lambda op, a, b, bias: op.Gemm(a, b, bias),
        ),
    ],
)
def test_a_pattern_is_replaced_and_keeps_metadata_and_names(lab, pattern, replacement):
    model = lab.make(LINEAR)
    golden = lab.run(model, **feeds(lab))
    model.graph.node("a").metadata_props["from"] = "fc"
    assert rewrite(model, pattern, replacement) == 1
    assert lab.op_types(model) == ["Gemm"]
    assert model.graph[0].metadata_props["from"] == "fc"
    assert lab.worst(golden, lab.run(model, **feeds(lab))) < 1e-6


def test_a_pattern_that_vanishes_leaves_inputs_and_outputs_their_names(lab):
    text = "g (float[2,4] x) => (float[2,4] y) { m = Neg(x) y = Neg(m) }"
    model = lab.make(text)
    assert rewrite(model, "b = Neg(a); c = Neg(b)", "a") == 1
    assert [one.name for one in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
    np.testing.assert_array_equal(lab.run(model, x=lab.numbers(2, 4))[0], lab.numbers(2, 4))


def test_attributes_not_written_do_not_match_and_named_ones_are_carried(lab):
    text = "g (float[4,2] x) => (float[2,4] y) { m = Transpose<perm=[1,0]>(x) y = Relu(m) }"
    model = lab.make(text)
    assert rewrite(model, "b = Transpose(a); c = Relu(b)", "c = Relu(a)") == 0
    swapped = "b = Relu(a); c = Transpose<perm: ints = @p>(b)"
    assert rewrite(model, "b = Transpose<perm: ints = @p>(a); c = Relu(b)", swapped) == 1
    assert lab.op_types(model) == ["Relu", "Transpose"]
    np.testing.assert_array_equal(
        lab.run(model, x=lab.numbers(4, 2))[0], np.maximum(lab.numbers(4, 2), 0).T
    )


def test_a_condition_decides(lab):
    model = lab.make(LINEAR)
    large = {"condition": lambda bias, **_: bias.shape[0] > 100}
    assert (
        rewrite(model, "c = MatMul(a, b); d = Add(c, bias)", "d = Gemm(a, b, bias)", **large) == 0
    )


def test_a_replacement_that_holds_its_pattern_ends(lab):
    model = lab.make("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert rewrite(model, "b = Relu(a)", "b = Relu(a); c = Relu(b)") == 1


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("c = MatMul(a, b", "a", "is no node"),
        ("", "a", "empty"),
        ("c = MatMul(a, b); d = Add(c, bias)", "d = Gemm(a, b, bios)", "reads 'bios'"),
        ("c = MatMul(a, b); d = Add(c, e)", "d = Gemm<transC=1>(a, b, e)", "no attribute transC"),
    ],
)
def test_what_cannot_be_read_is_told(lab, pattern, replacement, message):
    with pytest.raises(UsageError, match=message):
        rewrite(lab.make(LINEAR), pattern, replacement)
