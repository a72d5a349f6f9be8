"""Folds batch normalization into the convolution before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.building import (
    Splice,
    attribute_of,
    constant_array,
    constant_tensor,
    nodes_of_type,
    only_user,
)
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.weights import changed_weight
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]

_FOLDABLE = frozenset({"Conv", "ConvTranspose", "Gemm"})


def apply(model: ir.Model) -> EditResult:
    """Fold each BatchNormalization into the Conv, ConvTranspose or Gemm it follows."""
    names = Names(model)
    notes = []
    changed = 0
    for node in nodes_of_type(model, "BatchNormalization"):
        source = node.inputs[0]
        before = None if source is None else source.producer()
        if source is None or before is None or only_user(source) is not node:
            continue
        if before.op_type not in _FOLDABLE or before.graph is not node.graph:
            notes.append(f"'{node.name}' is left as it is: it follows {before.op_type}")
            continue
        why = _why_not(before, node)
        if why:
            notes.append(f"'{node.name}' is left as it is: {why}")
            continue
        _fold(Splice(model, names, node, [before, node]), before, node)
        changed += 1
    return EditResult(EDIT.name, changed, tuple(notes))


def _why_not(before: ir.Node, node: ir.Node) -> str:
    bias = before.inputs[2] if len(before.inputs) > 2 else None
    kind = before.op_type
    reasons = {
        "it is in training mode": attribute_of(node, "training_mode", 0) or len(node.outputs) > 1,
        "the ConvTranspose before it has groups": kind == "ConvTranspose"
        and attribute_of(before, "group", 1) != 1,
        "the Gemm before it scales its bias": attribute_of(before, "beta", 1.0) != 1.0,
        "weights are computed": constant_tensor(before.inputs[1]) is None
        or any(constant_array(one) is None for one in node.inputs[1:]),
        "the bias before it is not one constant a channel": bias is not None
        and np.ndim(constant_array(bias)) != 1,
    }
    return next((why for why, holds in reasons.items() if holds), "")


def _fold(splice: Splice, before: ir.Node, node: ir.Node) -> None:
    gamma, beta, mean, variance = (_wide(one) for one in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + attribute_of(node, "epsilon", 1e-5))
    tensor = constant_tensor(before.inputs[1])
    assert tensor is not None, "the caller has looked"  # noqa: S101
    shape = tuple(tensor.shape.numpy())
    axis = 0 if before.op_type == "Conv" or attribute_of(before, "transB", 0) else 1
    factor = scale.reshape([-1 if one == axis else 1 for one in range(len(shape))])
    weight = changed_weight(tensor, lambda array: array.astype(np.float64) * factor, shape)
    old = _wide(before.inputs[2]) if len(before.inputs) > 2 and before.inputs[2] else 0.0
    bias = ((old - mean) * scale + beta).astype(tensor.dtype.numpy())
    inputs = [
        before.inputs[0],
        splice.weight(weight, f"{tensor.name}_folded"),
        splice.constant(bias, f"{tensor.name}_bias"),
    ]
    splice.finish({node.outputs[0]: splice.op(before.op_type, inputs, dict(before.attributes))})


def _wide(value: ir.Value | None) -> NDArray[np.float64]:
    array: Any = constant_array(value)
    return np.asarray(array, np.float64)


EDIT = Edit("fold-batchnorm", "reassociating", apply, knowledge="BNFolding")
