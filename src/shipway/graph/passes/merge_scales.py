"""Scales one side of a matrix product instead of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_LARGEST = 2.0**32


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose `(a * (s * t)) @ b` for `(a * s) @ (b * t)`, s and t numbers. float32 and wider."""
    left, right = _scaled(node.inputs[0], view), _scaled(node.inputs[1], view)
    if left is None or right is None:
        return None
    (first, scale), (second, other) = left, right
    factor = np.asarray(scale * other)
    size = abs(float(factor))
    if not 1 / _LARGEST < size < _LARGEST:
        return None
    scaled = view.node("Mul", [first, view.constant(factor)])
    multiplied = view.node("MatMul", [scaled.outputs[0], second])
    return Rewrite((multiplied.outputs[0],), (scaled, multiplied))


def _scaled(value: ir.Value | None, view: View) -> tuple[ir.Value, NDArray[Any]] | None:
    """Return a tensor and the number it is multiplied by."""
    node = view.producer(value, "Mul")
    if node is None or value is None or not view.is_private(value):
        return None
    if view.fact(value).dtype not in {ir.DataType.FLOAT, ir.DataType.DOUBLE}:
        return None
    for index, factor in enumerate(node.inputs):
        array, tensor = view.array(factor), node.inputs[1 - index]
        if array is not None and tensor is not None and array.ndim == 0:
            return tensor, array
    return None


RULE = Rule(
    "merge_scales",
    "reassociating",
    "Multiplies one side of a MatMul by both numbers where each side is scaled by one: attention.",
    ("MatMul",),
    propose,
)
