"""Makes one Slice of two in a row that cut different axes."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["RULE"]


class _Cut(NamedTuple):
    start: int
    end: int
    axis: int
    step: int


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose one Slice where whoever reads the first one can do the same."""
    first = view.producer(node.inputs[0], "Slice")
    if first is None or first.outputs[0].is_graph_output():
        return None
    cuts = _cuts(first, view)
    if cuts is None or view.content(first.inputs[0]) is not None:
        return None  # numbers are followed by themselves
    if not all(use.idx == 0 and _joined(cuts, use.node, view) for use in first.outputs[0].uses()):
        return None
    joined = _joined(cuts, node, view) or []
    lists = (view.integers(numbers) for numbers in zip(*joined, strict=True))
    merged = view.node("Slice", [first.inputs[0], *lists])
    return Rewrite((merged.outputs[0],), (merged,))


def _joined(cuts: list[_Cut], second: ir.Node, view: View) -> list[_Cut] | None:
    """Return the cuts of two nodes as one, where no axis is cut twice."""
    if second.op_type != "Slice" or not is_standard(second):
        return None
    more = _cuts(second, view)
    if more is None or {one.axis for one in cuts} & {one.axis for one in more}:
        return None
    return [*cuts, *more]


def _cuts(node: ir.Node, view: View) -> list[_Cut] | None:
    """Return what a Slice takes of each axis; None where that is computed."""
    shape = view.shape(node.inputs[0])
    if shape is None or len(node.inputs) < 3:
        return None
    starts, ends = (view.knowledge.integers(value) for value in node.inputs[1:3])
    if starts is None or ends is None:
        return None
    given = [*node.inputs[3:5], None, None][:2]
    axes = tuple(range(len(starts))) if given[0] is None else view.knowledge.integers(given[0])
    steps = (1,) * len(starts) if given[1] is None else view.knowledge.integers(given[1])
    if axes is None or steps is None:
        return None
    axes = tuple(axis % len(shape) for axis in axes)
    return [_Cut(*one) for one in zip(starts, ends, axes, steps, strict=True)]


RULE = Rule(
    "merge_slices",
    "exact",
    "Makes one Slice of two in a row that cut different axes.",
    ("Slice",),
    propose,
)
