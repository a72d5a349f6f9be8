"""Replaces values whose integers are all known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_MOST_NUMBERS = 64
OPERATORS = (
    "Shape",
    "Size",
    "Cast",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Equal",
    "Less",
    "Greater",
    "Max",
    "Min",
    "And",
    "Or",
    "Xor",
    "Where",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Gather",
    "Slice",
    "Expand",
    "ConstantOfShape",
    "Range",
    "ReduceProd",
    "Identity",
    "Flatten",
)


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose an initializer with the numbers of the output."""
    output = node.outputs[0]
    fact = view.fact(output)
    if fact.content is None or fact.dtype is None or fact.shape is None or len(node.outputs) != 1:
        return None
    numbers = [dim for dim in fact.content if isinstance(dim, int)]
    sizes = [dim for dim in fact.shape if isinstance(dim, int)]
    known = len(numbers) == len(fact.content) and len(sizes) == len(fact.shape)
    if not known or len(numbers) > _MOST_NUMBERS:
        return None
    return Rewrite((view.constant(np.array(numbers, fact.dtype.numpy()).reshape(sizes)),))


RULE = Rule(
    "fold_shapes",
    "exact",
    "Replaces shape arithmetic by its result where symbolic integers show it, whatever the inputs.",
    OPERATORS,
    propose,
)
