"""Merges a Concat into the one that reads it."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, nodes_of_type, only_user
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.naming import Names
from shipway.graph.standard import is_standard

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Merge a Concat into the one that reads it, where both are along one axis."""
    names = Names(model)
    changed = 0
    for outer in nodes_of_type(model, "Concat"):
        axis = attribute_of(outer, "axis")
        inner = {
            one.producer()
            for one in outer.inputs
            if one is not None and _is_inner(one, outer, axis)
        }
        if not inner or axis is None:
            continue
        inputs = [
            part
            for one in outer.inputs
            if one is not None
            for part in (_parts(one) if one.producer() in inner else [one])
        ]
        splice = Splice(model, names, outer)
        splice.finish({outer.outputs[0]: splice.op("Concat", inputs, {"axis": axis})})
        changed += len(inner)
    return EditResult(EDIT.name, changed)


def _is_inner(value: ir.Value, outer: ir.Node, axis: int) -> bool:
    node = value.producer()
    return (
        node is not None
        and node.op_type == "Concat"
        and is_standard(node)
        and attribute_of(node, "axis") == axis
        and node.graph is outer.graph
        and only_user(value) is outer
    )


def _parts(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    return [] if node is None else [one for one in node.inputs if one is not None]


EDIT = Edit("merge-concats", "exact", apply, knowledge="MergeConsecutiveConcat")
