"""Folds a batch normalization into the convolution before it, transposed or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Conv with scaled weights. The scale is computed in float64."""
    before = view.producer(node.inputs[0], "Conv", "ConvTranspose")
    if before is None or node.attributes.get_int("training_mode") or len(node.inputs) != 5:
        return None
    unread = not any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    weight, private = before.inputs[1], view.is_private(before.outputs[0])
    dtype = view.fact(weight).dtype
    if not (unread and private and dtype in _FLOATS) or weight is None or dtype is None:
        return None
    fused_numbers = _scaled(node, before, view)
    if fused_numbers is None or not all(_fits(array, dtype) for array in fused_numbers):
        return None
    scaled, moved = fused_numbers
    attributes = {name: one.value for name, one in before.attributes.items()}
    inputs = [
        before.inputs[0],
        view.constant(scaled.astype(dtype.numpy())),
        view.constant(moved.astype(dtype.numpy())),
    ]
    fused = view.node(before.op_type, inputs, attributes)
    return Rewrite((fused.outputs[0], *[None] * (len(node.outputs) - 1)), (fused,))


def _scaled(node: ir.Node, before: ir.Node, view: View) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the weights and the bias with the normalization in them, in float64."""
    parts = [view.array(value) for value in node.inputs[1:]]
    numbers, bias = view.array(before.inputs[1]), _bias(before, view)
    if numbers is None or bias is None or any(part is None for part in parts):
        return None
    scale, shift, mean, variance = (np.asarray(part, np.float64) for part in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(variance + (node.attributes.get_float("epsilon", 1e-5) or 0.0))
    if not np.isfinite(factor).all():
        return None
    groups = 1 if before.op_type == "Conv" else before.attributes.get_int("group", 1) or 1
    return _per_channel(numbers, factor, before.op_type, groups), (bias - mean) * factor + shift


def _per_channel(
    weight: NDArray[Any], factor: NDArray[Any], op_type: str, groups: int
) -> NDArray[Any]:
    """Multiply a weight by one factor for each channel that comes out."""
    spatial = [1] * (weight.ndim - 2)
    if op_type == "Conv":
        return np.asarray(weight * factor.reshape(-1, 1, *spatial))
    inner, outer, *rest = weight.shape
    grouped = weight.reshape(groups, inner // groups, outer, *rest)
    return np.asarray(grouped * factor.reshape(groups, 1, outer, *spatial)).reshape(weight.shape)


def _bias(conv: ir.Node, view: View) -> NDArray[Any] | None:
    if len(conv.inputs) < 3 or conv.inputs[2] is None:
        return np.zeros((), np.float64)
    found = view.array(conv.inputs[2])
    return None if found is None else found.astype(np.float64)


def _fits(array: NDArray[Any], dtype: ir.DataType) -> bool:
    """Whether the numbers stay finite in the dtype of the weights."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(dtype.numpy())).all())


RULE = Rule(
    "fuse_conv_batchnorms",
    "reassociating",
    "Folds BatchNormalization into the Conv or ConvTranspose before it, where nobody else reads that.",
    ("BatchNormalization",),
    propose,
)
