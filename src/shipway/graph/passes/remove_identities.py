"""Removes nodes whose output is their input."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from shipway.graph.passes.merge_transposes import keeps_numbers, order_of
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose to read a node's first input instead of its output."""
    if not node.inputs or node.inputs[0] is None or not _CHECKS[node.op_type](node, view):
        return None
    extra = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
    if extra:
        return None
    return Rewrite((node.inputs[0], *[None] * (len(node.outputs) - 1)))


def _always(_node: ir.Node, _view: View) -> bool:
    return True


def _is_inference(node: ir.Node, view: View) -> bool:
    """Dropout does nothing unless its third input says it is trained."""
    if view.opset < 7:
        return bool(node.attributes.get_int("is_test"))
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    training = view.array(node.inputs[2])
    return training is not None and not training.any()


def _keeps_dtype(node: ir.Node, view: View) -> bool:
    dtype = view.fact(node.inputs[0]).dtype
    return dtype is not None and dtype == view.fact(node.outputs[0]).dtype


def _keeps_shape(node: ir.Node, view: View) -> bool:
    before, after = view.shape(node.inputs[0]), view.shape(node.outputs[0])
    return before is not None and before == after


def _keeps_order(node: ir.Node, view: View) -> bool:
    order = order_of(node, view)
    if order is not None and order == sorted(order):
        return True
    return keeps_numbers(node, view) and _keeps_shape(node, view)


def _goes_forward(node: ir.Node, view: View) -> bool:
    if not _keeps_shape(node, view):
        return False
    if len(node.inputs) < 5 or node.inputs[4] is None:
        return True
    steps = view.content(node.inputs[4])
    return steps is not None and all(step == 1 for step in steps)


def _is_alone(node: ir.Node, _view: View) -> bool:
    return len(node.inputs) == 1


def _adds_nothing(node: ir.Node, view: View) -> bool:
    if len(node.inputs) > 1:
        pads = view.content(node.inputs[1])
        return pads is not None and all(pad == 0 for pad in pads)
    names = [name for name in ("pads", "paddings") if name in node.attributes]
    return bool(names) and not any(node.attributes.get_ints(names[0]))


_CHECKS: dict[str, Callable[[ir.Node, View], bool]] = {
    "Identity": _always,
    "Dropout": _is_inference,
    "Cast": _keeps_dtype,
    "CastLike": _keeps_dtype,
    "Reshape": _keeps_shape,
    "Expand": _keeps_shape,
    "Flatten": _keeps_shape,
    "Squeeze": _keeps_shape,
    "Unsqueeze": _keeps_shape,
    "Tile": _keeps_shape,
    "Slice": _goes_forward,
    "Transpose": _keeps_order,
    "Concat": _is_alone,
    "Sum": _is_alone,
    "Max": _is_alone,
    "Min": _is_alone,
    "Mean": _is_alone,
    "Pad": _adds_nothing,
}

RULE = Rule(
    "remove_identities",
    "exact",
    "Removes nodes that hand on their input: Identity, Dropout outside training, casts to the same "
    "type, reshapes, slices, transposes, expansions and paddings that change nothing, Concat of one.",
    tuple(_CHECKS),
    propose,
)
