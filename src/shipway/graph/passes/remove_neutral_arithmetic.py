"""Removes additions of zero and multiplications by one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.uniform import filling_of
from shipway.graph.view import View

__all__ = ["RULE"]

_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1}


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose to read the other operand, where the output has its shape."""
    if len(node.inputs) != 2:
        return None
    sides = ((1, 0), (0, 1)) if node.op_type in {"Add", "Mul"} else ((1, 0),)
    for constant, other in sides:
        value = node.inputs[other]
        if value is not None and _is_neutral(node, constant, view):
            shape = view.shape(value)
            if shape is not None and shape == view.shape(node.outputs[0]):
                return Rewrite((value,))
    return None


def _is_neutral(node: ir.Node, index: int, view: View) -> bool:
    number = filling_of(node.inputs[index], view)
    if number is None or number != _NEUTRAL[node.op_type]:
        return False
    # x + 0.0 turns -0.0 into 0.0; x + -0.0 and x - 0.0 leave it.
    if node.op_type in {"Add", "Sub"} and number.dtype.kind == "f":
        return bool(np.signbit(number)) == (node.op_type == "Add")
    return True


RULE = Rule(
    "remove_neutral_arithmetic",
    "exact",
    "Removes x*1, x/1, x-0, x**1 and integer x+0. Floating-point x+0.0 stays: it changes -0.0.",
    tuple(_NEUTRAL),
    propose,
)
