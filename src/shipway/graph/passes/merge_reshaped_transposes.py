"""Transposes at once what is reshaped, transposed, and reshaped back."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.facts.dims import product
from shipway.graph.facts.fact import Shape
from shipway.graph.passes.merge_transposes import order_of
from shipway.graph.passes.retarget_reshapes import target_of
from shipway.graph.patterns import private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Transpose, with a Reshape before or behind it where one is left, for three nodes."""
    transpose = private_producer(node.inputs[0], "Transpose", view)
    before = None if transpose is None else transpose.inputs[0]
    reshape = None if transpose is None else private_producer(before, "Reshape", view)
    after = view.shape(node.outputs[0])
    if transpose is None or reshape is None or after is None:
        return None
    found = _apart(transpose, reshape, after, view)
    return found or (
        None if _is_paired(node, len(after)) else _split(transpose, reshape, after, view)
    )


def _is_paired(node: ir.Node, rank: int) -> bool:
    """Whether a Reshape makes pairs that are taken apart: a rotation of neighbours, as others read it."""
    uses = list(node.outputs[0].uses())
    return bool(uses) and all(
        use.node.op_type == "Gather" and use.node.attributes.get_int("axis", 0) in {-1, rank - 1}
        for use in uses
    )


def _apart(transpose: ir.Node, reshape: ir.Node, after: Shape, view: View) -> Rewrite | None:
    """Transpose the dimensions apart that were merged."""
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


def _split(transpose: ir.Node, reshape: ir.Node, after: Shape, view: View) -> Rewrite | None:
    """Split the dimensions before the Transpose that are split behind it."""
    coarse, order = view.shape(transpose.outputs[0]), order_of(transpose, view)
    groups = None if coarse is None else _pieces(after, coarse)
    if groups is None or order is None:
        return None
    places = [axis for index in _inverse(order) for axis in groups[index]]
    target = target_of(view.shape(reshape.inputs[0]), tuple(after[axis] for axis in places))
    if target is None:
        return None
    cut = view.node("Reshape", [reshape.inputs[0], view.integers(target)])
    moved = view.node("Transpose", [cut.outputs[0]], {"perm": _inverse(places)})
    return Rewrite((moved.outputs[0],), (cut, moved))


def _inverse(order: list[int]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]


def _pieces(fine: Shape, coarse: Shape) -> list[list[int]] | None:
    """Return which neighbouring sizes each dimension is split into; None where some are merged.

    A size of 1 goes with the one behind it, where it is least in the way of others.
    """
    if 0 in fine:
        return None
    groups: list[list[int]] = [[] for _ in coarse]
    axes = [axis for axis, size in enumerate(fine) if size != 1]
    start = 0
    for index, size in enumerate(coarse):
        while product(fine[axis] for axis in groups[index]) != size:
            if not axes:
                return None
            last = axes.pop(0)
            groups[index] += range(start, last + 1)
            start = last + 1
    if axes or start == 0:
        return None
    next(group for group in reversed(groups) if group).extend(range(start, len(fine)))
    return groups


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
    "and a Reshape takes them apart again; and splits them at once where that is done in two steps.",
    ("Reshape",),
    propose,
)
