"""Replaces sequences of tensors by the tensors."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_FIRST_SPLIT_WITH_INPUT = 13


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose to read a tensor itself where it is only put into a sequence and taken out again."""
    if node.op_type == "SplitToSequence":
        return _split(node, view)
    parts = _parts(node.inputs[0], view)
    if parts is None:
        return None
    if node.op_type == "ConcatFromSequence":
        if node.attributes.get_int("new_axis") or not parts:
            return None
        concat = view.node("Concat", parts, {"axis": node.attributes["axis"].as_int()})
        return Rewrite((concat.outputs[0],), (concat,))
    places = view.knowledge.integers(node.inputs[1])
    if places is None or not -len(parts) <= places[0] < len(parts):
        return None
    return Rewrite((parts[places[0]],))


def _parts(value: ir.Value | None, view: View) -> list[ir.Value] | None:
    made = view.producer(value, "SequenceConstruct")
    if made is None:
        return None
    parts = [one for one in made.inputs if one is not None]
    return parts if len(parts) == len(made.inputs) else None


def _split(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Split whose outputs make the sequence, where their number and sizes are known."""
    shape = view.shape(node.inputs[0])
    if shape is None or view.opset < _FIRST_SPLIT_WITH_INPUT or node.outputs[0].is_graph_output():
        return None
    axis = node.attributes.get_int("axis", 0)
    size = shape[axis]
    sizes = _sizes(node, size, view)
    keeps = node.attributes.get_int("keepdims", 1) or (len(node.inputs) > 1 and node.inputs[1])
    if sizes is None or not keeps:
        return None
    attributes = {"axis": axis}
    split = view.node(
        "Split", [node.inputs[0], view.integers(sizes)], attributes, outputs=len(sizes)
    )
    sequence = view.node("SequenceConstruct", split.outputs)
    return Rewrite((sequence.outputs[0],), (split, sequence))


def _sizes(node: ir.Node, size: object, view: View) -> list[int] | None:
    """Return the sizes of the parts; a single number cuts into parts of that size."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return [1] * size if isinstance(size, int) and size else None
    given, shape = view.knowledge.integers(node.inputs[1]), view.shape(node.inputs[1])
    if given is None or shape is None:
        return None
    if len(shape) == 1:
        return list(given)
    if not isinstance(size, int) or not size:
        return None
    step = given[0]
    return [min(step, size - start) for start in range(0, size, step)]


RULE = Rule(
    "unpack_sequences",
    "exact",
    "Replaces sequences by their tensors: SplitToSequence by Split, SequenceAt and "
    "ConcatFromSequence by what was put in.",
    ("SplitToSequence", "SequenceAt", "ConcatFromSequence"),
    propose,
)
