"""Makes one Split of several slices of the same tensor."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["RULE"]

_FIRST_SPLIT_WITH_INPUT = 13


class _Cut(NamedTuple):
    node: ir.Node
    axis: int
    start: int
    end: int


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Split at the first of several slices along one axis that do not overlap.

    The other slices are rewritten when they are visited: they find the Split.
    """
    source = node.inputs[0]
    cut = _cut(node, view)
    if source is None or cut is None or view.content(source) is not None:
        return None  # numbers are followed by themselves
    known = _known_split(source, cut, view)
    if known is not None:
        return known
    cuts = _cuts_like(source, cut, view)
    size = (view.shape(source) or ())[cut.axis]
    if len(cuts) < 2 or not isinstance(size, int):
        return None
    sizes = _sizes([(one.start, one.end) for one in cuts], size)
    if sizes is None:
        return None
    split = _split(source, cut.axis, sizes, view)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return Rewrite((split.outputs[starts.index(cut.start)],), (split,))


def _cut(node: ir.Node, view: View) -> _Cut | None:
    """Return what a Slice cuts, where it is one known piece along one axis."""
    shape = view.shape(node.inputs[0]) if node.inputs else None
    if node.op_type != "Slice" or shape is None or len(node.inputs) < 3:
        return None
    starts, ends = (view.knowledge.integers(value) for value in node.inputs[1:3])
    axes = view.knowledge.integers(node.inputs[3]) if len(node.inputs) > 3 else (0,)
    steps = view.knowledge.integers(node.inputs[4]) if len(node.inputs) > 4 else (1,)
    if not starts or not ends or not axes or steps != (1,) or len(starts) != 1:
        return None
    axis = axes[0] % len(shape)
    size = shape[axis]
    if not isinstance(size, int):
        return None
    start, end, _ = slice(starts[0], ends[0]).indices(size)
    return _Cut(node, axis, start, end) if 0 <= start < end and end - start < size else None


def _cuts_like(source: ir.Value, cut: _Cut, view: View) -> list[_Cut]:
    """Return the cuts of the same tensor along the same axis in the same graph."""
    found = [
        other
        for use in source.uses()
        if use.idx == 0
        and use.node.graph is cut.node.graph
        and use.node.op_type == "Slice"
        and is_standard(use.node)
        and (other := _cut(use.node, view)) is not None
        and other.axis == cut.axis
    ]
    return sorted(found, key=lambda one: (one.start, one.end))


def _sizes(pieces: list[tuple[int, int]], size: int) -> list[int] | None:
    """Return the sizes that cut an axis at every piece; None where pieces overlap."""
    found, reached = [], 0
    for start, end in dict.fromkeys(pieces):
        if start < reached:
            return None
        if start > reached:
            found.append(start - reached)
        found.append(end - start)
        reached = end
    return [*found, size - reached] if reached < size else found


def _split(source: ir.Value, axis: int, sizes: list[int], view: View) -> ir.Node:
    if view.opset < _FIRST_SPLIT_WITH_INPUT:
        attributes = {"axis": axis, "split": sizes}
        return view.node("Split", [source], attributes, outputs=len(sizes))
    inputs = [source, view.integers(sizes)]
    return view.node("Split", inputs, {"axis": axis}, outputs=len(sizes))


def _known_split(source: ir.Value, cut: _Cut, view: View) -> Rewrite | None:
    """Propose to read a Split that has this piece; where it stands later, an equal one here.

    The later one then is merged into it.
    """
    rank = len(view.shape(source) or ())
    for use in source.uses():
        node = use.node
        if node.op_type != "Split" or node.graph is not cut.node.graph or use.idx != 0:
            continue
        if not is_standard(node) or node.attributes.get_int("axis", 0) % rank != cut.axis:
            continue
        index = _piece(node, cut, view)
        if index is None:
            continue
        if _comes_before(node, cut.node):
            return Rewrite((node.outputs[index],))
        attributes = {name: one.value for name, one in node.attributes.items()}
        split = view.node("Split", node.inputs, attributes, outputs=len(node.outputs))
        return Rewrite((split.outputs[index],), (split,))
    return None


def _piece(split: ir.Node, cut: _Cut, view: View) -> int | None:
    """Return which output of a Split is a piece."""
    start = 0
    for index, output in enumerate(split.outputs):
        shape = view.shape(output)
        size = None if shape is None else shape[cut.axis]
        if not isinstance(size, int):
            return None
        if (start, start + size) == (cut.start, cut.end) and output.name:
            return index
        start += size
    return None


def _comes_before(first: ir.Node, second: ir.Node) -> bool:
    return first.graph is not None and next(
        node is first for node in first.graph if node is first or node is second
    )


RULE = Rule(
    "split_slices",
    "exact",
    "Makes one Split of several slices of a tensor along one axis that do not overlap.",
    ("Slice",),
    propose,
)
