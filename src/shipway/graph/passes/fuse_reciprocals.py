"""Divides instead of multiplying by a reciprocal."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose `x / y` for `x * (1 / y)`."""
    if len(node.inputs) != 2:
        return None
    for index, value in enumerate(node.inputs):
        other = node.inputs[1 - index]
        divisor = _divisor(value, view)
        if divisor is None or value is None or other is None or other is value:
            continue
        if not view.is_private(value) or view.is_constant(divisor):
            continue
        quotient = view.node("Div", [other, divisor])
        return Rewrite((quotient.outputs[0],), (quotient,))
    return None


def _divisor(value: ir.Value | None, view: View) -> ir.Value | None:
    """Return y where a value is 1 / y."""
    node = view.producer(value, "Reciprocal", "Div")
    if node is None or view.fact(value).dtype not in _FLOATS:
        return None
    if node.op_type == "Reciprocal":
        return node.inputs[0]
    dividend = view.array(node.inputs[0])
    shape = view.shape(node.inputs[1])
    is_one = dividend is not None and dividend.size == 1 and np.all(dividend == 1)
    same = shape is not None and shape == view.shape(value)
    return node.inputs[1] if is_one and same else None


_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})

RULE = Rule(
    "fuse_reciprocals",
    "reassociating",
    "Divides by y instead of multiplying by 1/y, where nobody else reads 1/y.",
    ("Mul",),
    propose,
)
