"""Pads the tokens of a transformer to a multiple, with a mask, so that the result stays the same."""

from __future__ import annotations

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.building import attribute_of
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.token_padding import Padding
from shipway.graph.edits.token_rules import find_rule
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.locating import locate_value
from shipway.graph.naming import Names
from shipway.graph.ordering import sort_graph

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, to: int = 16, at: str = "", axis: int = 1) -> EditResult:
    """Pad the tokens to a multiple, and mask the new ones in every Softmax: the result is the same.

    Chips that work in tiles of 16 want 208 tokens where a vision transformer has 197. New tokens
    are zeros; attention never sees them; before an operator that would, and before outputs, they
    are cut off.

    Args:
        model: The model.
        to: What the number of tokens shall be a multiple of.
        at: Name of the value to pad; the Concat of class token and patches if not given.
        axis: Axis of the tokens in it.

    Raises:
        UsageError: The value is not found, or its number of tokens is not fixed.
        ModelError: No Softmax is over tokens, so there is nothing to gain.
    """
    if to < 1:
        raise UsageError(f"Tokens cannot be padded to a multiple of {to}.", hint="E.g. --to 16")
    known = infer_values(model)
    start = locate_value(model, at) if at else _find_tokens(model, known)
    if start.graph is not model.graph:
        raise UsageError(f"'{start.name}' lies inside another graph; tokens are padded outside.")
    size = _size(start, axis, known)
    padded = -(-size // to) * to
    if padded == size:
        return EditResult(EDIT.name, 0, (f"'{start.name}' has {size} tokens, a multiple of {to}",))
    trial = model.clone()
    if not _pad(trial, locate_value(trial, start.name or ""), axis, known, padded).masked:
        raise ModelError(
            f"No Softmax is over the {size} tokens of '{start.name}', as attention would have it.",
            hint="Simplify the model first, so that its shapes are constants, or name another "
            "value with --at.",
        )
    padding = _pad(model, start, axis, known, padded)
    notes = [
        f"{size} -> {padded} tokens at '{start.name}'",
        f"masked in {len(padding.masked)} Softmax",
        *(f"cut back to {size} before {one}" for one in padding.cuts),
    ]
    return EditResult(EDIT.name, padding.changed, tuple(notes))


def _pad(
    model: ir.Model, start: ir.Value, axis: int, known: dict[str, Inferred], padded: int
) -> Padding:
    size = _size(start, axis, known)
    padding = Padding(model, Names(model), dict(known), size, padded)
    _spread(padding, start, axis)
    sort_graph(model)
    return padding


def _find_tokens(model: ir.Model, known: dict[str, Inferred]) -> ir.Value:
    """Return the Concat of class token and patches, or else the sum with the position embedding."""
    for op_type in ("Concat", "Add"):
        for node in model.graph:
            value = node.outputs[0]
            one = known.get(value.name or "")
            shape = None if one is None else one.shape
            if node.op_type != op_type or shape is None or len(shape) != 3:
                continue
            if not isinstance(shape[1], int) or shape[1] < 2:
                continue
            if op_type == "Concat" and attribute_of(node, "axis") in {1, -2}:
                return value
            if op_type == "Add" and any(_is_embedding(two, shape) for two in node.inputs):
                return value
    raise UsageError(
        "Which value holds the tokens is not clear: no Concat and no position embedding is of "
        "three dimensions.",
        hint="Name it: --at VALUE --axis 1.",
    )


def _is_embedding(value: ir.Value | None, shape: tuple[int | str | None, ...]) -> bool:
    tensor = None if value is None else value.const_value
    return tensor is not None and tuple(tensor.shape.numpy())[-2:] == shape[1:]


def _size(value: ir.Value, axis: int, known: dict[str, Inferred]) -> int:
    one = known.get(value.name or "")
    shape = None if one is None else one.shape
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    if not isinstance(size, int):
        shown = "unknown" if shape is None else list(shape)
        raise UsageError(f"'{value.name}' has no fixed number of tokens: its shape is {shown}.")
    return size


def _spread(padding: Padding, start: ir.Value, axis: int) -> None:
    """Pad a value, and go through what is computed from it, in order."""
    graph = padding.model.graph
    order = list(graph)
    producer = start.producer()
    first = order.index(producer) + 1 if producer is not None else 0
    if first == len(order):
        return
    new = padding.begin(start, axis, order[first])
    uses = [use for use in start.uses() if use.node is not new.producer()]
    for use in uses:
        if use.node.graph is graph:
            use.node.replace_input_with(use.idx, new)
    for node in order[first:]:
        if padding.reads_padded(node):
            _visit(padding, node)
    for index, value in enumerate(list(graph.outputs)):
        if value in padding.axes:
            padding.cut_output(index)


def _visit(padding: Padding, node: ir.Node) -> None:
    rule = find_rule(node)
    found = None if rule is None else rule(padding, node)
    if found is None:
        padding.cut_before(node)
        return
    for value, axes in zip(node.outputs, found, strict=True):
        padding.note(value, axes)
    padding.changed += 1


EDIT = Edit("pad-tokens", "reassociating", apply)
