"""Merges and removes Casts that do nothing of their own."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, nodes_of_type
from shipway.graph.casting import loses_nothing
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Merge Casts in a row where the first loses nothing, equal ones side by side; drop idle ones."""
    names = Names(model)
    known = infer_values(model)
    changed = 0
    for node in nodes_of_type(model, "Cast"):
        source = node.inputs[0]
        if source is None or node.graph is None:
            continue
        new = _shorter(model, node, source, known, names)
        if new is not None:
            Splice(model, names, node).finish({node.outputs[0]: new})
            changed += 1
    return EditResult(EDIT.name, changed)


def _shorter(
    model: ir.Model, node: ir.Node, source: ir.Value, known: dict[str, Inferred], names: Names
) -> ir.Value | None:
    """Return what a Cast's users may read instead."""
    to = attribute_of(node, "to")
    if to is None:
        return None
    if _dtype(source, known) == ir.DataType(to):
        return source
    inner = source.producer()
    if inner is not None and inner.op_type == "Cast" and inner.inputs[0] is not None:
        first = _dtype(inner.inputs[0], known)
        if first is not None and loses_nothing(first, attribute_of(inner, "to")):
            if first == ir.DataType(to):
                return inner.inputs[0]
            splice = Splice(model, names, node, [inner, node])
            new = splice.op("Cast", inner.inputs[:1], dict(node.attributes))
            new.type, new.shape = ir.TensorType(ir.DataType(to)), node.outputs[0].shape
            return new
    return _twin(node, source, to)


def _twin(node: ir.Node, source: ir.Value, to: int) -> ir.Value | None:
    """Return the result of an equal Cast of the same value that comes before."""
    for other in node.graph or ():
        if other is node:
            return None
        same = other.op_type == "Cast" and other.inputs[0] is source
        if (
            same
            and dict(other.attributes) == dict(node.attributes)
            and to == attribute_of(other, "to")
        ):
            return other.outputs[0]
    return None


def _dtype(value: ir.Value, known: dict[str, Inferred]) -> ir.DataType | None:
    one = known.get(value.name or "")
    return value.dtype if one is None else one.dtype


EDIT = Edit("merge-casts", "exact", apply, knowledge="MergeCasts")
