"""Gives slices that run to the end of an axis a constant end."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_TO_THE_END = 2**63 - 1


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose constant ends where each is a number, or the size of its axis."""
    shape = view.shape(node.inputs[0])
    if shape is None or len(node.inputs) < 3 or view.is_constant(node.inputs[2]):
        return None
    ends = view.content(node.inputs[2])
    has_axes = len(node.inputs) > 3 and node.inputs[3] is not None
    axes = view.knowledge.integers(node.inputs[3]) if has_axes else tuple(range(len(ends or ())))
    if ends is None or axes is None or view.fact(node.inputs[2]).dtype is not ir.DataType.INT64:
        return None
    steps = view.knowledge.integers(node.inputs[4]) if len(node.inputs) > 4 else (1,) * len(axes)
    if steps is None or any(step < 0 for step in steps):
        return None
    found = [
        end if isinstance(end, int) else _TO_THE_END if end == shape[axis] else None
        for end, axis in zip(ends, axes, strict=True)
    ]
    numbers = [end for end in found if end is not None]
    if len(numbers) < len(found):
        return None
    return Rewrite(operands={2: view.integers(numbers)})


RULE = Rule(
    "retarget_slices",
    "exact",
    "Gives a Slice a constant end where the computed one is the size of the axis.",
    ("Slice",),
    propose,
)
