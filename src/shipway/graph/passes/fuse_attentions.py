"""Makes one Attention of the nodes that spell it out."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from shipway.graph.patterns import number_of, operands, private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_RANK = 4


class _Scores(NamedTuple):
    query: ir.Value
    key: ir.Value  # transposed
    mask: ir.Value | None
    scale: float


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose Attention for `softmax(query @ key.T * scale + mask) @ value` with four dimensions."""
    softmax = private_producer(node.inputs[0], "Softmax", view)
    value = node.inputs[1]
    if softmax is None or not _is_on_last_axis(softmax) or value is None:
        return None
    scores = _scores(softmax.inputs[0], view)
    if scores is None or not _fits(scores, value, view):
        return None
    key = view.node("Transpose", [scores.key], {"perm": [0, 1, 3, 2]})
    inputs = [scores.query, key.outputs[0], value]
    if scores.mask is not None:
        inputs.append(scores.mask)
    attention = view.node("Attention", inputs, {"scale": scores.scale})
    return Rewrite((attention.outputs[0],), (key, attention))


def _is_on_last_axis(softmax: ir.Node) -> bool:
    return softmax.attributes.get_int("axis", -1) in {-1, _RANK - 1}


def _scores(value: ir.Value | None, view: View) -> _Scores | None:
    """Return what the scores are made of: a product, scaled before or after, and a mask."""
    add = private_producer(value, "Add", view)
    if add is None:
        return _product(value, None, view)
    for scores, mask in operands(add):
        found = _product(scores, mask, view)
        if found is not None:
            return found
    return None


def _product(value: ir.Value | None, mask: ir.Value | None, view: View) -> _Scores | None:
    value, scale = _unscaled(value, view)
    matmul = private_producer(value, "MatMul", view)
    if matmul is None or matmul.inputs[0] is None or matmul.inputs[1] is None:
        return None
    query, before = _unscaled(matmul.inputs[0], view)
    key, beside = _unscaled(matmul.inputs[1], view)
    if query is None or key is None:
        return None
    return _Scores(query, key, mask, scale * before * beside)


def _unscaled(value: ir.Value | None, view: View) -> tuple[ir.Value | None, float]:
    """Return a tensor and the number it is multiplied or divided by."""
    node = private_producer(value, "Mul", view, "Div")
    if node is None:
        return value, 1.0
    pairs = [(node.inputs[0], node.inputs[1])] if node.op_type == "Div" else list(operands(node))
    for tensor, factor in pairs:
        number = number_of(factor, view)
        if number and tensor is not None and view.shape(tensor) == view.shape(value):
            return tensor, 1 / number if node.op_type == "Div" else number
    return value, 1.0


def _fits(scores: _Scores, value: ir.Value, view: View) -> bool:
    """Whether batch and heads are the same everywhere, and the mask belongs to the scores."""
    shapes = [view.shape(one) for one in (scores.query, scores.key, value)]
    if any(shape is None or len(shape) != _RANK for shape in shapes):
        return False
    leading = [shape[:2] for shape in shapes if shape is not None]
    if len(set(leading)) != 1 or view.fact(value).dtype is not ir.DataType.FLOAT:
        return False
    if scores.mask is None:
        return True
    mask = view.shape(scores.mask)
    return (
        mask is not None
        and 2 <= len(mask) <= _RANK
        and view.fact(scores.mask).dtype is ir.DataType.FLOAT
        and mask[-2:] == ((shapes[0] or ())[2], (shapes[1] or ())[3])
    )


RULE = Rule(
    "fuse_attentions",
    "reassociating",
    "Makes one Attention of MatMul, scale, mask, Softmax and MatMul with batch and heads apart.",
    ("MatMul",),
    propose,
    opset=23,
)
