"""Replaces reflecting Pads by Gather and Concat."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, constant_ints, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Replace each Pad that reflects by Gather and Concat, which every chip has."""
    names = Names(model)
    notes = []
    changed = 0
    for node in nodes_of_type(model, "Pad"):
        if attribute_of(node, "mode", "constant") != "reflect":
            continue
        sides, source = _sides(node), node.inputs[0]
        if sides is None or source is None or any(min(one) < 0 for one in sides.values()):
            notes.append(f"'{node.name}' is left as it is: its pads are computed or negative")
            continue
        splice = Splice(model, names, node)
        value = source
        for axis, (before, after) in sides.items():
            value = _reflect(splice, value, axis, before, after)
        splice.finish({node.outputs[0]: value})
        changed += 1
    return EditResult(EDIT.name, changed, tuple(notes))


def _sides(node: ir.Node) -> dict[int, tuple[int, int]] | None:
    """Return how much is added before and behind each axis."""
    inputs = [*node.inputs, None, None, None]
    pads = attribute_of(node, "pads") or constant_ints(inputs[1])
    axes = constant_ints(inputs[3])
    if pads is None or (inputs[3] is not None and axes is None):
        return None
    half = len(pads) // 2
    axes = list(range(half)) if axes is None else axes
    return {axis: (pads[one], pads[half + one]) for one, axis in enumerate(axes)}


def _reflect(splice: Splice, value: ir.Value, axis: int, before: int, after: int) -> ir.Value:
    parts = [value]
    if before:
        mirrored = splice.ints(*range(before, 0, -1))
        parts.insert(0, splice.op("Gather", [value, mirrored], {"axis": axis}))
    if after:
        mirrored = splice.ints(*range(-2, -2 - after, -1))
        parts.append(splice.op("Gather", [value, mirrored], {"axis": axis}))
    return splice.op("Concat", parts, {"axis": axis}) if len(parts) > 1 else value


EDIT = Edit("replace-reflect-pad", "exact", apply, knowledge="ModifyReflectionPad")
