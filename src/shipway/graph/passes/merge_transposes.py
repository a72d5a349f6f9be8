"""Merges two transposes in a row."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose one transpose, or none, for two."""
    before = view.producer(node.inputs[0], "Transpose")
    if before is None or before.inputs[0] is None:
        return None
    first, second = _order(before, view), _order(node, view)
    if first is None or second is None:
        return None
    order = [first[axis] for axis in second]
    if order == sorted(order):
        return Rewrite((before.inputs[0],))
    merged = view.node("Transpose", [before.inputs[0]], {"perm": order})
    return Rewrite((merged.outputs[0],), (merged,))


def _order(node: ir.Node, view: View) -> list[int] | None:
    order = node.attributes.get_ints("perm")
    if order is not None:
        return list(order)
    shape = view.shape(node.inputs[0])
    return None if shape is None else list(reversed(range(len(shape))))


RULE = Rule(
    "merge_transposes",
    "exact",
    "Makes one Transpose of two in a row, or none.",
    ("Transpose",),
    propose,
)
