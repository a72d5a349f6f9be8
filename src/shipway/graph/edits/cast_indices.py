"""Makes int64 indices int32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, constant_array, feed, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]

_INDEX_INPUTS = {
    "Gather": (1,),
    "GatherElements": (1,),
    "ScatterElements": (1,),
    "Slice": (1, 2, 3, 4),
}
_INT32 = np.iinfo(np.int32)


def apply(model: ir.Model) -> EditResult:
    """Make int64 indices of Gather, Scatter and Slice int32, where no number can be lost.

    Constants are rewritten; a Cast to int64 that only indices come from casts to int32. Sums and
    products of int64 are left alone: whether they fit is not known.
    """
    names = Names(model)
    changed = 0
    for node in nodes_of_type(model, *_INDEX_INPUTS):
        places = [one for one in _INDEX_INPUTS[node.op_type] if one < len(node.inputs)]
        places = [one for one in places if node.inputs[one] is not None]
        arrays = [constant_array(node.inputs[one]) for one in places]
        if not places or any(not _is_int64(one) for one in arrays):
            continue
        splice = Splice(model, names, node)
        for place, array in zip(places, arrays, strict=True):
            small = np.clip(array, _INT32.min, _INT32.max).astype(np.int32)
            feed(node, place, splice.constant(small, "indices"))
        changed += 1
    return EditResult(EDIT.name, changed + _narrow_casts(model))


def _is_int64(array: np.ndarray | None) -> bool:
    """Whether a constant is int64. Beyond int32 only Slice has numbers, which mean the end."""
    return array is not None and array.dtype == np.int64


def _narrow_casts(model: ir.Model) -> int:
    count = 0
    for node in nodes_of_type(model, "Cast"):
        value = node.outputs[0]
        if attribute_of(node, "to") != ir.DataType.INT64 or value.is_graph_output():
            continue
        uses = list(value.uses())
        if uses and all(_is_index(use.node, use.idx) for use in uses):
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.INT32))
            value.type = ir.TensorType(ir.DataType.INT32)
            count += 1
    return count


def _is_index(node: ir.Node, place: int) -> bool:
    """Whether an input is an index whose type no other input shares."""
    single = {"Gather", "GatherElements", "ScatterElements"}
    return node.op_type in single and not node.domain and place == 1


EDIT = Edit("cast-indices", "exact", apply, knowledge="TypeCast")
