"""Makes initializers of Constant nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_NUMBERS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose an initializer with the numbers of a Constant; texts and sparse ones stay."""
    ((name, attribute),) = node.attributes.items()
    if name in _NUMBERS:
        return Rewrite((view.constant(np.array(attribute.value, _NUMBERS[name])),))
    if name != "value":
        return None
    tensor: Any = attribute.value
    if tensor.dtype is ir.DataType.STRING:
        return None
    return Rewrite((view.constant_of(tensor),))


RULE = Rule(
    "lift_constants",
    "exact",
    "Makes an initializer of every Constant node, shared among equal small ones.",
    ("Constant",),
    propose,
)
