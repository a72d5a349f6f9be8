"""How padded tokens pass through each operator.

A rule changes what a node holds for the old number of tokens, and returns the padded axes of its
outputs; or None where the node must not see the new tokens, and they are cut off before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from shipway.graph.building import (
    attribute_of,
    constant_array,
    constant_ints,
    constant_tensor,
    feed,
)
from shipway.graph.edits.merge_transposes import ELEMENTWISE
from shipway.graph.edits.slices import read_slice
from shipway.graph.edits.token_padding import Axes, Padding
from shipway.graph.standard import is_standard

__all__ = ["Rule", "find_rule"]

Rule = Callable[[Padding, ir.Node], "list[Axes] | None"]

_KEEP_ZERO = frozenset(
    {"Abs", "Cast", "Dropout", "Erf", "Gelu", "Identity", "Neg", "Relu", "Sign", "Sqrt", "Tanh"}
)
_BROADCAST = frozenset(
    {
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "Less",
        "Max",
        "Min",
        "Mul",
        "Or",
        "Pow",
        "Sub",
        "Where",
    }
)
_REDUCE = frozenset({"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})


def find_rule(node: ir.Node) -> Rule | None:
    """Return the rule of a node; None for an operator without one."""
    if not is_standard(node):
        return None
    if node.op_type in ELEMENTWISE | {"Dropout", "Clip", "IsNaN", "IsInf"}:
        return _elementwise
    if node.op_type in _BROADCAST:
        return _broadcast
    if node.op_type in _REDUCE:
        return _reduce
    return _RULES.get(node.op_type)


def _axes(padding: Padding, value: ir.Value | None) -> Axes:
    return {} if value is None else padding.axes.get(value, {})


def _rank(padding: Padding, value: ir.Value | None) -> int | None:
    shape = padding.shape(value)
    return None if shape is None else len(shape)


def _elementwise(padding: Padding, node: ir.Node) -> list[Axes] | None:
    if any(_axes(padding, one) for one in node.inputs[1:]):
        return None
    keeps = node.op_type in _KEEP_ZERO
    axes = {axis: zero and keeps for axis, zero in _axes(padding, node.inputs[0]).items()}
    return [axes for _ in node.outputs]


def _broadcast(padding: Padding, node: ir.Node) -> list[Axes] | None:
    ranks = [_rank(padding, one) for one in node.inputs]
    if any(rank is None for rank in ranks):
        return None
    known = [rank for rank in ranks if rank is not None]
    whole = max(known)
    offsets = [whole - rank for rank in known]
    padded = {
        axis + offset
        for value, offset in zip(node.inputs, offsets, strict=True)
        for axis in _axes(padding, value)
    }
    if not all(_fit(padding, node, offsets, axis, change=False) for axis in padded):
        return None
    found = {}
    for axis in sorted(padded):
        _fit(padding, node, offsets, axis, change=True)
        found[axis] = _stays_zero(padding, node, offsets, axis)
    return [found]


def _fit(
    padding: Padding, node: ir.Node, offsets: Sequence[int], axis: int, *, change: bool
) -> bool:
    """Whether every input is padded along an axis, or the same for all of it, or can be padded."""
    for index, (value, offset) in enumerate(zip(node.inputs, offsets, strict=True)):
        own = axis - offset
        shape = padding.shape(value) or ()
        if own < 0 or own in _axes(padding, value) or shape[own] == 1:
            continue
        if constant_tensor(value) is None or shape[own] != padding.size:
            return False
        if change:
            padding.pad_constant(node, index, own, 1.0 if node.op_type in {"Div", "Pow"} else 0.0)
    return True


def _stays_zero(padding: Padding, node: ir.Node, offsets: Sequence[int], axis: int) -> bool:
    zero = [
        _axes(padding, value).get(axis - offset, False) or _is_zero(value)
        for value, offset in zip(node.inputs, offsets, strict=True)
    ]
    if node.op_type == "Mul":
        return any(zero)
    if node.op_type == "Where":
        return all(zero[1:])
    return node.op_type in {"Add", "Sub", "Max", "Min"} and all(zero)


def _is_zero(value: ir.Value | None) -> bool:
    array = constant_array(value, limit_bytes=64)
    return array is not None and not np.any(array)


def _reduce(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    axes = attribute_of(node, "axes") or constant_ints(node.inputs[1] if node.inputs[1:] else None)
    if rank is None or not axes:
        return None
    reduced = {axis % rank for axis in axes}
    padded = _axes(padding, node.inputs[0])
    if reduced & set(padded):
        return None
    if attribute_of(node, "keepdims", 1):
        return [dict.fromkeys(padded, False)]
    return [{axis - sum(one < axis for one in reduced): False for axis in padded}]


def _normalization(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    padded = _axes(padding, node.inputs[0])
    if rank is None or any(axis >= attribute_of(node, "axis", -1) % rank for axis in padded):
        return None
    if len(node.outputs) > 1 or any(_axes(padding, one) for one in node.inputs[1:]):
        return None
    return [dict.fromkeys(padded, False)]


def _softmax(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    is_old = padding.model.opset_imports.get("", 0) < 13
    if rank is None:
        return None
    axis = attribute_of(node, "axis", 1 if is_old else -1) % rank
    if is_old and axis != rank - 1:
        return None
    padded = _axes(padding, node.inputs[0])
    if axis in padded:
        padding.mask(node, axis, rank)
    return [{one: one == axis for one in padded}]


def _matmul(padding: Padding, node: ir.Node) -> list[Axes] | None:
    first, second = node.inputs[0], node.inputs[1]
    one, two = _rank(padding, first), _rank(padding, second)
    if one is None or two is None or min(one, two) < 2:
        return None
    left = {axis - one: zero for axis, zero in _axes(padding, first).items()}
    right = {axis - two: zero for axis, zero in _axes(padding, second).items()}
    whole = max(one, two)
    found = {}
    for axis in {axis for axis in (*left, *right) if axis < -2}:
        for value, rank, own in ((first, one, left), (second, two, right)):
            if axis not in own and rank + axis >= 0 and (padding.shape(value) or ())[axis] != 1:
                return None
        found[whole + axis] = left.get(axis, False) or right.get(axis, False)
    if not _contract(padding, node, left, right):
        return None
    if -2 in left:
        found[whole - 2] = left[-2]
    if -1 in right:
        found[whole - 1] = right[-1]
    return [found]


def _contract(
    padding: Padding, node: ir.Node, left: dict[int, bool], right: dict[int, bool]
) -> bool:
    """Whether sums over tokens stay the same: what is new on one side must be zero."""
    if -1 in left and -2 in right:
        return left[-1] or right[-2]
    for own, other, index, axis in ((left, -1, 1, -2), (right, -2, 0, -1)):
        if other in own:
            value = node.inputs[index]
            rank = _rank(padding, value) or 0
            return bool(padding.pad_constant(node, index, rank + axis))
    return True


def _gemm(padding: Padding, node: ir.Node) -> list[Axes] | None:
    row = 1 if attribute_of(node, "transA", 0) else 0
    padded = _axes(padding, node.inputs[0])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    shape = padding.shape(bias)
    per_column = bias is None or (shape is not None and (len(shape) < 2 or shape[0] == 1))
    if set(padded) != {row} or not per_column or _axes(padding, node.inputs[1]):
        return None
    return [{0: False}]


def _transpose(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    if rank is None:
        return None
    perm = attribute_of(node, "perm") or list(range(rank))[::-1]
    padded = _axes(padding, node.inputs[0])
    return [{perm.index(axis): zero for axis, zero in padded.items()}]


def _reshape(padding: Padding, node: ir.Node) -> list[Axes] | None:
    """Let a Reshape pass where each axis of tokens is one of the result too, alone."""
    target = constant_ints(node.inputs[1])
    before = padding.shape(node.inputs[0])
    after = padding.shape(node.outputs[0])
    padded = _axes(padding, node.inputs[0])
    if target is None or before is None or after is None or len(target) != len(after):
        return None
    found: Axes = {}
    for axis, zero in padded.items():
        place = _place(before[axis + 1 :], after, padding.size)
        if place is None:
            return None
        found[place] = zero
    if len(found) < len(padded):
        return None
    new = [_new_size(padding, one, size, after[one], found) for one, size in enumerate(target)]
    if new.count(-1) > 1:
        return None
    feed(node, 1, padding.splice(node).ints(*new))
    return [found]


def _new_size(
    padding: Padding, place: int, size: int, result: int | str | None, found: Axes
) -> int:
    """Return the new entry of a Reshape's target.

    A 0 takes the size from the same place before, which may be of another axis now.
    """
    if place in found:
        return padding.padded
    if size:
        return size
    return result if isinstance(result, int) else -1


def _place(
    behind: Sequence[int | str | None], after: Sequence[int | str | None], size: int
) -> int | None:
    """Return the axis that has as many elements behind it, and the size of the tokens."""
    if not all(isinstance(one, int) for one in behind):
        return None
    wanted = math.prod(one for one in behind if isinstance(one, int))
    count = 1
    for place in range(len(after) - 1, -1, -1):
        one = after[place]
        if count == wanted and one == size:
            return place
        if not isinstance(one, int):
            return None
        count *= one
    return None


def _unsqueeze(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    axes = attribute_of(node, "axes") or constant_ints(node.inputs[1] if node.inputs[1:] else None)
    if rank is None or not axes:
        return None
    added = {axis % (rank + len(axes)) for axis in axes}
    kept = [one for one in range(rank + len(axes)) if one not in added]
    return [{kept[axis]: zero for axis, zero in _axes(padding, node.inputs[0]).items()}]


def _squeeze(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    axes = attribute_of(node, "axes") or constant_ints(node.inputs[1] if node.inputs[1:] else None)
    if rank is None or not axes:
        return None
    gone = {axis % rank for axis in axes}
    padded = _axes(padding, node.inputs[0])
    return [{axis - sum(one < axis for one in gone): zero for axis, zero in padded.items()}]


def _split(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    padded = _axes(padding, node.inputs[0])
    if rank is None or attribute_of(node, "axis", 0) % rank in padded:
        return None
    return [padded for _ in node.outputs]


def _concat(padding: Padding, node: ir.Node) -> list[Axes] | None:
    rank = _rank(padding, node.inputs[0])
    states = [_axes(padding, one) for one in node.inputs]
    axis = attribute_of(node, "axis")
    if rank is None or axis is None or axis % rank in states[0]:
        return None
    if any(set(one) != set(states[0]) for one in states):
        return None
    return [{one: all(state[one] for state in states) for one in states[0]}]


def _slice(padding: Padding, node: ir.Node) -> list[Axes] | None:
    """Let a Slice pass; where it is along the tokens it counts the old ones."""
    rank = _rank(padding, node.inputs[0])
    cuts = read_slice(node)
    padded = dict(_axes(padding, node.inputs[0]))
    if rank is None or cuts is None or any(_axes(padding, one) for one in node.inputs[1:]):
        return None
    along = [cut for cut in cuts if cut.axis % rank in padded]
    if not along:
        return [padded]
    if any(cut.step < 1 for cut in along) or len(node.inputs) < 3:
        return None
    starts, ends = [cut.start for cut in cuts], [cut.end for cut in cuts]
    for index, cut in enumerate(cuts):
        if cut in along:
            starts[index], ends[index], _ = slice(cut.start, cut.end).indices(padding.size)
            del padded[cut.axis % rank]
    splice = padding.splice(node)
    feed(node, 1, splice.ints(*starts))
    feed(node, 2, splice.ints(*ends))
    return [padded]


def _gather(padding: Padding, node: ir.Node) -> list[Axes] | None:
    """Let a Gather pass; where it is along the tokens it counts the old ones."""
    rank, size = _rank(padding, node.inputs[0]), padding.size
    indices = constant_array(node.inputs[1])
    padded = _axes(padding, node.inputs[0])
    if rank is None or indices is None or not padded:
        return None
    axis = attribute_of(node, "axis", 0) % rank
    if axis in padded and np.any(indices < 0):
        kept = np.where(indices < 0, indices + size, indices).astype(indices.dtype)
        feed(node, 1, padding.splice(node).constant(kept, "indices"))
    shift = indices.ndim - 1
    return [
        {one + (shift if one > axis else 0): zero for one, zero in padded.items() if one != axis}
    ]


_RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _normalization,
    "MatMul": _matmul,
    "RMSNormalization": _normalization,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
