"""Drops expansions before operators that broadcast by themselves, and makes others constant."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.facts.broadcasting import broadcast
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_BROADCAST = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Where",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "And",
    "Or",
    "Xor",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Mod",
)


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose to read what stands before an Expand, where the output's shape stays the same."""
    if node.op_type == "Expand":
        return _constant_target(node, view)
    output = view.shape(node.outputs[0])
    if output is None or view.opset < 7:
        return None
    for index, value in enumerate(node.inputs):
        expand = view.producer(value, "Expand")
        if expand is None or expand.inputs[0] is None:
            continue
        inputs = [expand.inputs[0] if at == index else one for at, one in enumerate(node.inputs)]
        if broadcast(map(view.shape, inputs), view.knowledge) == output:
            return Rewrite(operands={index: expand.inputs[0]})
    return None


def _constant_target(node: ir.Node, view: View) -> Rewrite | None:
    before, after = view.shape(node.inputs[0]), view.shape(node.outputs[0])
    if before is None or after is None or view.is_constant(node.inputs[1]):
        return None
    padded = [*[1] * (len(after) - len(before)), *before]
    sizes = [
        dim if isinstance(dim, int) else 1 if dim == old else None
        for dim, old in zip(after, padded, strict=True)
    ]
    numbers = [size for size in sizes if size is not None]
    if len(numbers) < len(sizes):
        return None
    return Rewrite(operands={1: view.integers(numbers)})


RULE = Rule(
    "drop_expands",
    "exact",
    "Drops an Expand before an operator that broadcasts by itself; gives others a constant target.",
    ("Expand", *_BROADCAST),
    propose,
)
