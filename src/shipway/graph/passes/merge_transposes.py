"""Merges two transposes in a row."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE", "keeps_numbers", "order_of"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose one transpose, or none, for two."""
    before = view.producer(node.inputs[0], "Transpose")
    if before is None or before.inputs[0] is None:
        return None
    first, second = order_of(before, view), order_of(node, view)
    if first is None or second is None:
        return None
    order = [first[axis] for axis in second]
    if order == sorted(order):
        return Rewrite((before.inputs[0],))
    merged = view.node("Transpose", [before.inputs[0]], {"perm": order})
    return Rewrite((merged.outputs[0],), (merged,))


def order_of(node: ir.Node, view: View) -> list[int] | None:
    """Return which axis of its input each axis of a Transpose's output is."""
    order = node.attributes.get_ints("perm")
    if order is not None:
        return list(order)
    shape = view.shape(node.inputs[0])
    return None if shape is None else list(reversed(range(len(shape))))


def keeps_numbers(node: ir.Node, view: View) -> bool:
    """Whether a Transpose moves only axes of size 1, so that the numbers stay in their order."""
    shape, order = view.shape(node.inputs[0]), order_of(node, view)
    if shape is None or order is None:
        return False
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


RULE = Rule(
    "merge_transposes",
    "exact",
    "Makes one Transpose of two in a row, or none.",
    ("Transpose",),
    propose,
)
