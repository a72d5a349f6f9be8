"""Makes constant int64 indices int32.

Cases: indices of Gather, GatherElements and ScatterElements; starts, ends, axes and steps of Slice, all
of them constant. A number beyond int32 means "to the end" in a Slice and is cut; elsewhere it stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["RULE"]

_PLACES = {
    "Gather": (1,),
    "GatherElements": (1,),
    "ScatterElements": (1,),
    "Slice": (1, 2, 3, 4),
}
_FIRST_SLICE_WITH_INPUTS = 10
_RANGE = np.iinfo(np.int32)
_MOST_NODES = 1000


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose int32 constants, where nobody else needs the int64 ones: the file never grows."""
    if not _is_index(node, 1, view) or not _are_free(node, view):
        return None
    operands = {}
    for place, value in _indices(node):
        array = view.array(value)
        if array is None:
            return None
        narrow = np.clip(array, _RANGE.min, _RANGE.max).astype(np.int32)
        operands[place] = view.constant(narrow)
    return Rewrite(operands=operands)


def _indices(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    for place in _PLACES[node.op_type]:
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is not None:
            yield place, value


def _are_free(node: ir.Node, view: View) -> bool:
    """Whether a node can change, and with it every other that shares a constant with it."""
    seen, pending = {node}, [node]
    while pending:
        current = pending.pop()
        values = [value for _, value in _indices(current)]
        if not values or not all(_fits(value, current, view) for value in values):
            return False
        for use in (use for value in values for use in value.uses()):
            if not _is_index(use.node, use.idx, view) or len(seen) > _MOST_NODES:
                return False
            if use.node not in seen:
                seen.add(use.node)
                pending.append(use.node)
    return True


def _is_index(node: ir.Node, place: int, view: View) -> bool:
    if node.op_type == "Slice" and view.opset < _FIRST_SLICE_WITH_INPUTS:
        return False
    return is_standard(node) and place in _PLACES.get(node.op_type, ())


def _fits(value: ir.Value, node: ir.Node, view: View) -> bool:
    array = view.array(value)
    if array is None or array.dtype != np.int64 or value.is_graph_output():
        return False
    if node.op_type == "Slice" and _goes_forward(node, view):
        return True
    return not array.size or bool(_RANGE.min <= array.min() and array.max() <= _RANGE.max)


def _goes_forward(node: ir.Node, view: View) -> bool:
    """Whether no step is negative: engines differ in what an end beyond everything means then."""
    steps = view.array(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else None
    return steps is None or not (steps < 0).any()


RULE = Rule(
    "narrow_indices",
    "exact",
    "Makes constant int64 indices of Gather, GatherElements, ScatterElements and Slice int32.",
    tuple(_PLACES),
    propose,
)
