"""Makes one RMSNormalization of the nodes that spell it out."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.patterns import number_of, operands, private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose RMSNormalization for `x / sqrt(mean(x**2) + epsilon) * weight` on the last axis."""
    for value, weight in operands(node):
        quotient = private_producer(value, "Div", view)
        if quotient is None or weight is None:
            continue
        source = quotient.inputs[0]
        epsilon = _epsilon(quotient.inputs[1], source, view)
        shape, size = view.shape(source), view.shape(weight)
        if epsilon is None or not shape or size != shape[-1:]:
            continue
        if view.fact(source).dtype is not ir.DataType.FLOAT:
            continue
        attributes = {"axis": -1, "epsilon": epsilon}
        norm = view.node("RMSNormalization", [source, weight], attributes)
        return Rewrite((norm.outputs[0],), (norm,))
    return None


def _epsilon(root: ir.Value | None, source: ir.Value | None, view: View) -> float | None:
    """Return what is added to the mean square of a value before its root is taken."""
    sqrt = private_producer(root, "Sqrt", view)
    add = None if sqrt is None else private_producer(sqrt.inputs[0], "Add", view)
    if add is None:
        return None
    for value, epsilon in operands(add):
        mean = private_producer(value, "ReduceMean", view)
        if mean is None or not _is_over_last_axis(mean, view):
            continue
        square = private_producer(mean.inputs[0], "Pow", view, "Mul")
        if square is None or square.inputs[0] is not source:
            continue
        second = square.inputs[1]
        if (square.op_type == "Pow" and number_of(second, view) == 2) or second is source:
            return number_of(epsilon, view)
    return None


def _is_over_last_axis(mean: ir.Node, view: View) -> bool:
    shape = view.shape(mean.inputs[0])
    axes = view.knowledge.integers(mean.inputs[1]) if len(mean.inputs) > 1 else None
    if axes is None:
        axes = tuple(mean.attributes.get_ints("axes", ()))
    keeps = mean.attributes.get_int("keepdims", 1) == 1
    return keeps and shape is not None and axes in {(-1,), (len(shape) - 1,)}


RULE = Rule(
    "fuse_rms_normalizations",
    "reassociating",
    "Makes one RMSNormalization of Pow, ReduceMean, Add, Sqrt, Div and Mul.",
    ("Mul",),
    propose,
    opset=23,
)
