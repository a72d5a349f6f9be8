"""Replaces Gathers of neighbours by Slices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, constant_array, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.slices import TO_THE_END
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Replace a Gather of one index, or of a row of neighbouring ones, by Slice (and Squeeze)."""
    names = Names(model)
    changed = 0
    for node in nodes_of_type(model, "Gather"):
        indices = constant_array(node.inputs[1])
        axis = attribute_of(node, "axis", 0)
        if indices is None or axis is None or indices.ndim > 1 or not _is_row(indices):
            continue
        first, last = int(indices.reshape(-1)[0]), int(indices.reshape(-1)[-1])
        end = TO_THE_END if last == -1 else last + 1
        splice = Splice(model, names, node)
        if node.inputs[0] is None:
            continue
        new = splice.cut(node.inputs[0], axis, first, end)
        if indices.ndim == 0:
            new = splice.squeeze(new, axis)
        splice.finish({node.outputs[0]: new})
        changed += 1
    return EditResult(EDIT.name, changed)


def _is_row(indices: np.ndarray) -> bool:
    flat = indices.reshape(-1).astype(np.int64)
    same_side = flat.size > 0 and (flat[0] >= 0) == (flat[-1] >= 0)
    return bool(same_side and np.all(np.diff(flat) == 1))


EDIT = Edit("gather-to-slice", "exact", apply)
