"""Makes the K of every TopK what ONNX asks for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.building import Splice, constant_array, feed, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Make the K of every TopK one int64 in one dimension, as ONNX asks; surgeon did the reverse.

    msit's TopkFix wrote a scalar K, which its compiler wanted and every runtime refuses.
    """
    names = Names(model)
    changed = 0
    for node in nodes_of_type(model, "TopK"):
        k = node.inputs[1] if len(node.inputs) > 1 else None
        array = constant_array(k)
        if array is not None and (array.ndim != 1 or array.dtype != np.int64):
            splice = Splice(model, names, node)
            feed(node, 1, splice.ints(*array.reshape(-1)[:1].tolist()))
            changed += 1
    return EditResult(EDIT.name, changed)


EDIT = Edit("repair-topk", "exact", apply, knowledge="TopkFix")
