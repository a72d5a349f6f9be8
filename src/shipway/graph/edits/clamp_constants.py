"""Brings constants into the range of float16."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.weights import changed_weight
from shipway.graph.locating import all_graphs
from shipway.graph.weights import SparseTensor

__all__ = ["EDIT", "apply"]

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})


def apply(model: ir.Model, *, limit: float = 65504.0) -> EditResult:
    """Bring constants beyond float16, such as a mask's -1e9 or infinity, into its range.

    Args:
        model: The model.
        limit: Largest magnitude; that of float16 if not given.
    """
    changed = 0
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and _is_beyond(tensor, limit):
                shape = tuple(tensor.shape.numpy())
                value.const_value = changed_weight(tensor, _clamp(limit), shape)
                changed += 1
        for node in graph:
            changed += _clamp_attributes(node, limit)
    return EditResult(EDIT.name, changed)


def _clamp(limit: float) -> Any:
    def clamp(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.clip(array, -limit, limit))

    return clamp


def _is_beyond(tensor: ir.TensorProtocol, limit: float) -> bool:
    if tensor.dtype not in _FLOATS or isinstance(tensor, SparseTensor):
        return False
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.abs(tensor.numpy()) > limit))


def _clamp_attributes(node: ir.Node, limit: float) -> int:
    if node.op_type not in {"Constant", "ConstantOfShape"} or node.domain:
        return 0
    count = 0
    for name, attribute in list(node.attributes.items()):
        if attribute.type is ir.AttributeType.TENSOR and _is_beyond(attribute.as_tensor(), limit):
            tensor = attribute.as_tensor()
            array = np.clip(tensor.numpy(), -limit, limit)
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(array, dtype=tensor.dtype))
            count += 1
        elif name == "value_float" and abs(attribute.as_float()) > limit:
            number = float(np.clip(attribute.as_float(), -limit, limit))
            node.attributes[name] = ir.AttrFloat32(name, number)
            count += 1
    return count


EDIT = Edit("clamp-constants", "changes-numerics", apply)
