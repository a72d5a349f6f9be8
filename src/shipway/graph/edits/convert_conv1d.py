"""Makes convolutions over one axis convolutions over two."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import (
    Splice,
    attribute_of,
    constant_tensor,
    nodes_of_type,
)
from shipway.graph.edits.merge_transposes import ELEMENTWISE
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.weights import changed_weight
from shipway.graph.inferring import infer_values
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]

_AXIS = 2


def apply(model: ir.Model) -> EditResult:
    """Make each Conv over one axis a Conv over two, the first of size 1.

    Between convolutions the axis stays, through operators that treat all elements alike.
    """
    names = Names(model)
    known = infer_values(model)
    wide: dict[ir.Value, ir.Value] = {}
    notes = []
    changed = 0
    for node in nodes_of_type(model, "Conv", "ConvTranspose"):
        weight = node.inputs[1]
        one = known.get((weight.name if weight is not None else "") or "")
        if one is None or one.shape is None:
            notes.append(f"'{node.name}': the rank of its weight is not known")
        elif len(one.shape) == 3:
            _convert(model, names, node, wide)
            changed += 1
    return EditResult(EDIT.name, changed, tuple(notes))


def _convert(model: ir.Model, names: Names, node: ir.Node, wide: dict[ir.Value, ir.Value]) -> None:
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or weight is None:
        return
    splice = Splice(model, names, node)
    inputs = [_widened(splice, source, wide), _wide_weight(splice, weight), *node.inputs[2:]]
    attributes = {key: one for key, one in node.attributes.items() if key != "pads"}
    new: dict[str, object] = dict(attributes)
    for name, first in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
        given = attribute_of(node, name)
        if given is not None:
            new[name] = [first, *given]
    for name in ("output_padding", "output_shape"):
        given = attribute_of(node, name)
        if given is not None:
            new[name] = [0 if name == "output_padding" else 1, *given]
    pads = attribute_of(node, "pads")
    if pads is not None:
        new["pads"] = [0, pads[0], 0, pads[1]]
    result = splice.op(node.op_type, inputs, new)
    result.type = node.outputs[0].type
    narrow = splice.squeeze(result, _AXIS)
    old = node.outputs[0]
    splice.finish({old: narrow})
    wide[narrow] = result


def _widened(splice: Splice, value: ir.Value, wide: dict[ir.Value, ir.Value]) -> ir.Value:
    """Return a value with the axis put in: one that has it already, where there is one."""
    if value in wide:
        return wide[value]
    node = value.producer()
    source = node.inputs[0] if node is not None and len(node.inputs) == 1 else None
    if node is not None and source is not None and node.op_type in ELEMENTWISE and source in wide:
        found = splice.op(node.op_type, [wide[source]], dict(node.attributes), like=[node])
        found.type = value.type
    else:
        found = splice.unsqueeze(value, _AXIS)
    wide[value] = found
    return found


def _wide_weight(splice: Splice, weight: ir.Value) -> ir.Value:
    tensor = constant_tensor(weight)
    if tensor is None:
        return splice.unsqueeze(weight, _AXIS)
    first, second, size = tensor.shape.numpy()
    shape = (first, second, 1, size)
    new = changed_weight(tensor, lambda array: array.reshape(shape), shape)
    return splice.weight(new, f"{weight.name}_2d")


EDIT = Edit("convert-conv1d", "reassociating", apply, knowledge="Conv1d2Conv2d")
