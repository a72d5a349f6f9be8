"""Lets a Gather of one index read what stands before a Transpose."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.passes.merge_transposes import order_of
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Gather along the axis the Transpose took its axis from.

    Only where the other axes were in order: then nothing of the Transpose is left to do.
    """
    transpose = view.producer(node.inputs[0], "Transpose")
    order = None if transpose is None else order_of(transpose, view)
    if transpose is None or order is None or view.shape(node.inputs[1]) != ():
        return None
    axis = (node.attributes.get_int("axis", 0) or 0) % len(order)
    others = [one for index, one in enumerate(order) if index != axis]
    if others != sorted(others):
        return None
    inputs = [transpose.inputs[0], node.inputs[1]]
    gather = view.node("Gather", inputs, {"axis": order[axis]})
    return Rewrite((gather.outputs[0],), (gather,))


RULE = Rule(
    "retarget_gathers",
    "exact",
    "Lets a Gather of one index read what stands before a Transpose that only brought its axis there.",
    ("Gather",),
    propose,
)
