"""Transposes at once what is reshaped, transposed, and reshaped back."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.facts.dims import product
from shipway.graph.facts.fact import Shape
from shipway.graph.passes.retarget_reshapes import target_of
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose one Transpose, and a Reshape behind it where one is left, for three nodes."""
    transpose = _private(node.inputs[0], "Transpose", view)
    reshape = None if transpose is None else _private(transpose.inputs[0], "Reshape", view)
    after = view.shape(node.outputs[0])
    if transpose is None or reshape is None or after is None:
        return None
    source = reshape.inputs[0]
    before, axes = view.shape(source), _axes(transpose, reshape, view)
    if before is None or axes is None:
        return None
    moved = view.node("Transpose", [source], {"perm": axes})
    shape = tuple(before[axis] for axis in axes)
    if shape == after:
        return Rewrite((moved.outputs[0],), (moved,))
    target = target_of(shape, after)
    if target is None:
        return None
    back = view.node("Reshape", [moved.outputs[0], view.integers(target)])
    return Rewrite((back.outputs[0],), (moved, back))


def _private(value: ir.Value | None, op_type: str, view: View) -> ir.Node | None:
    """Return the node that computes a value nobody else reads."""
    node = view.producer(value, op_type)
    return node if node is not None and value is not None and view.is_private(value) else None


def _axes(transpose: ir.Node, reshape: ir.Node, view: View) -> list[int] | None:
    """Return the order of the finer dimensions that is the transpose of the merged ones."""
    fine, coarse = view.shape(reshape.inputs[0]), view.shape(transpose.inputs[0])
    if fine is None or coarse is None or "perm" not in transpose.attributes:
        return None
    groups = _groups(fine, coarse)
    if groups is None:
        return None
    order = transpose.attributes["perm"].as_ints()
    return [axis for index in order for axis in groups[index]]


def _groups(fine: Shape, coarse: Shape) -> list[list[int]] | None:
    """Return which neighbouring sizes make each merged one; None where some are cut in pieces."""
    groups: list[list[int]] = []
    axis = 0
    for index, size in enumerate(coarse):
        group: list[int] = []
        while axis < len(fine) and (not group or product(fine[i] for i in group) != size):
            group.append(axis)
            axis += 1
        if product(fine[i] for i in group) != size or not group:
            return None
        is_last = index == len(coarse) - 1
        while axis < len(fine) and fine[axis] == 1 and (is_last or coarse[index + 1] != 1):
            group.append(axis)
            axis += 1
        groups.append(group)
    return groups if axis == len(fine) else None


RULE = Rule(
    "merge_reshaped_transposes",
    "exact",
    "Transposes the finer shape at once where a Reshape merges dimensions, a Transpose moves them, "
    "and a Reshape takes them apart again.",
    ("Reshape",),
    propose,
)
