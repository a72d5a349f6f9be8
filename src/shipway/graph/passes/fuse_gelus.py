"""Makes one Gelu of the nodes that spell it out."""

from __future__ import annotations

import math

import onnx_ir as ir

from shipway.graph.patterns import number_of, operands, private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_CLOSE = 1e-6


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose Gelu for the product of x, a half and 1 + erf(x / sqrt(2)), in any order."""
    factors = _factors(node, view)
    if factors is None:
        return None
    numbers = [number for value in factors if (number := number_of(value, view)) is not None]
    tensors = [value for value in factors if number_of(value, view) is None]
    if len(numbers) != 1 or len(tensors) != 2 or not math.isclose(numbers[0], 0.5):
        return None
    for source, gate in (tensors, reversed(tensors)):
        if _is_gate(gate, source, view):
            gelu = view.node("Gelu", [source])
            return Rewrite((gelu.outputs[0],), (gelu,))
    return None


def _factors(node: ir.Node, view: View) -> list[ir.Value] | None:
    """Return the three factors of two multiplications of which nobody else reads the first."""
    for value, other in operands(node):
        inner = private_producer(value, "Mul", view)
        if inner is not None and other is not None:
            return [*(one for one in inner.inputs if one is not None), other]
    return None


def _is_gate(gate: ir.Value, source: ir.Value, view: View) -> bool:
    """Whether a value is 1 + erf(source / sqrt(2))."""
    add = private_producer(gate, "Add", view)
    if add is None:
        return False
    for value, one in operands(add):
        erf = private_producer(value, "Erf", view)
        if erf is None or number_of(one, view) != 1:
            continue
        scaled = private_producer(erf.inputs[0], "Div", view, "Mul")
        if scaled is None:
            continue
        wanted = math.sqrt(2) if scaled.op_type == "Div" else math.sqrt(0.5)
        for left, right in operands(scaled):
            factor = number_of(right, view)
            if left is source and factor is not None and abs(factor - wanted) < _CLOSE:
                return scaled.op_type == "Mul" or scaled.inputs[0] is source
    return False


RULE = Rule(
    "fuse_gelus",
    "reassociating",
    "Makes one Gelu of Div, Erf, Add and two Mul.",
    ("Mul",),
    propose,
    opset=20,
)
