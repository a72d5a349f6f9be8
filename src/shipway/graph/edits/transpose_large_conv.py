"""Turns convolutions over wide images on their side."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.building import (
    Splice,
    attribute_of,
    constant_tensor,
    nodes_of_type,
)
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.weights import changed_weight
from shipway.graph.inferring import infer_values
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]

_TURNED = [0, 1, 3, 2]


def apply(model: ir.Model, *, limit: int = 1024) -> EditResult:
    """Turn each Conv over an image wider than a limit and wider than high on its side.

    Args:
        model: The model.
        limit: Widest image that is left as it is.
    """
    names = Names(model)
    known = infer_values(model)
    changed = 0
    for node in nodes_of_type(model, "Conv"):
        source, tensor = node.inputs[0], constant_tensor(node.inputs[1])
        one = known.get((source.name if source is not None else "") or "")
        shape = None if one is None else one.shape
        if tensor is None or shape is None or len(shape) != 4 or source is None:
            continue
        height, width = shape[2], shape[3]
        if isinstance(width, int) and isinstance(height, int) and width > max(limit, height):
            _turn(Splice(model, names, node), node, source, tensor)
            changed += 1
    return EditResult(EDIT.name, changed)


def _turn(splice: Splice, node: ir.Node, source: ir.Value, tensor: ir.TensorProtocol) -> None:
    attributes: dict[str, object] = dict(node.attributes)
    for name in ("kernel_shape", "strides", "dilations"):
        given = attribute_of(node, name)
        if given is not None:
            attributes[name] = given[::-1]
    pads = attribute_of(node, "pads")
    if pads is not None:
        attributes["pads"] = [pads[1], pads[0], pads[3], pads[2]]
    first, second, height, width = tensor.shape.numpy()
    turned = changed_weight(
        tensor,
        lambda array: np.ascontiguousarray(array.transpose(_TURNED)),
        (first, second, width, height),
    )
    inputs = [
        splice.op("Transpose", [source], {"perm": _TURNED}),
        splice.weight(turned, f"{tensor.name}_turned"),
        *node.inputs[2:],
    ]
    result = splice.op("Conv", inputs, attributes)
    splice.finish({node.outputs[0]: splice.op("Transpose", [result], {"perm": _TURNED})})


EDIT = Edit("transpose-large-conv", "reassociating", apply, knowledge="TransposeLargeInputConv")
