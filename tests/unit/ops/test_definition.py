"""Definitions: what is refused, and what a definition says of itself."""

import pytest

from shipway.errors import UsageError
from shipway.ops import CustomOp, find_operator
from shipway.ops.defining import custom_op


def test_a_name_without_namespace_is_refused():
    """The namespace is the ONNX domain: there must be one."""
    with pytest.raises(UsageError, match="cannot be the name"):
        custom_op("plain", schema="(Tensor x) -> Tensor", types="T->T")


@pytest.mark.parametrize(
    ("schema", "types", "words"),
    [
        ("(Tensor x", "T->T", "does not parse"),
        ("(Tensor x) -> Tensor", "T", "write letters"),
        ("(Tensor x, Tensor y) -> Tensor", "T->T", "2 input"),
        ("(int k, Tensor x) -> Tensor", "T->T", "after an attribute"),
        ("(Tensor x, str mode) -> Tensor", "T->T", "no runtime carries"),
    ],
)
def test_a_wrong_signature_is_explained(schema, types, words):
    """What is wrong is named, with the operator."""
    op = CustomOp("test::wrong", schema, lambda x: x, types, "Wrong")
    with pytest.raises(UsageError, match=words):
        _ = op.signature


def test_the_same_name_with_another_meaning_is_refused():
    """Torch and ONNX have been told of the first one."""
    define = {"schema": "(Tensor x) -> Tensor", "types": "T->T"}
    first = custom_op("test::taken", **define)(lambda x: x + 1)
    assert find_operator("test::taken") is first
    with pytest.raises(UsageError, match="already"):
        custom_op("test::taken", schema="(Tensor x) -> (Tensor, Tensor)", types="T->TT")(
            lambda x: (x, x)
        )


def test_an_unknown_operator_is_named():
    """With the command that lists them."""
    with pytest.raises(UsageError, match="no operator 'nothing'") as caught:
        find_operator("nothing")
    assert "shipway op list" in caught.value.hint
