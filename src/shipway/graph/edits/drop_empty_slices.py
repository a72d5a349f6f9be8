"""Removes empty Slices from Concats."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.slices import read_slice
from shipway.graph.naming import Names
from shipway.graph.standard import is_standard

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Remove Slices that are empty along the axis of the Concat that reads them."""
    names = Names(model)
    changed = 0
    for node in nodes_of_type(model, "Concat"):
        axis = attribute_of(node, "axis")
        values = [one for one in node.inputs if one is not None]
        kept = [one for one in values if not _is_empty(one, axis)]
        if not kept or len(kept) == len(values):
            continue
        splice = Splice(model, names, node)
        new = kept[0] if len(kept) == 1 else splice.op("Concat", kept, {"axis": axis})
        splice.finish({node.outputs[0]: new})
        changed += len(values) - len(kept)
    return EditResult(EDIT.name, changed)


def _is_empty(value: ir.Value, axis: int | None) -> bool:
    node = value.producer()
    if node is None or node.op_type != "Slice" or not is_standard(node):
        return False
    cuts = read_slice(node) or ()
    return any(one.axis == axis and one.is_empty for one in cuts)


EDIT = Edit("drop-empty-slices", "exact", apply, knowledge="EmptySliceFix")
