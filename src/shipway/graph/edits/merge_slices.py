"""Merges Slices of different axes that follow each other."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, nodes_of_type, only_user
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.slices import Cut, read_slice
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Merge Slices of different axes that follow each other into one."""
    names = Names(model)
    changed = 0
    for second in nodes_of_type(model, "Slice"):
        first = second.inputs[0].producer() if second.inputs[0] is not None else None
        if first is None or first.op_type != "Slice" or len(second.inputs) < 3:
            continue
        if only_user(first.outputs[0]) is not second or first.graph is not second.graph:
            continue
        cuts = _joined(read_slice(first), read_slice(second))
        if cuts is None or len(first.inputs) < 3:
            continue
        splice = Splice(model, names, second, [first, second])
        lists = [
            [one.start for one in cuts],
            [one.end for one in cuts],
            [one.axis for one in cuts],
            [one.step for one in cuts],
        ]
        inputs = [first.inputs[0], *(splice.ints(*one) for one in lists)]
        splice.finish({second.outputs[0]: splice.op("Slice", inputs)})
        changed += 1
    return EditResult(EDIT.name, changed)


def _joined(
    first: tuple[Cut, ...] | None, second: tuple[Cut, ...] | None
) -> tuple[Cut, ...] | None:
    """Return both cuts as one, if they are surely of different axes."""
    if not first or not second:
        return None
    axes = [one.axis for one in (*first, *second)]
    if len(set(axes)) < len(axes) or (min(axes) < 0 <= max(axes)):
        return None
    return (*first, *second)


EDIT = Edit("merge-slices", "exact", apply, knowledge="MergeConsecutiveSlice")
