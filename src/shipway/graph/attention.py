"""Recognises attention that is spelled out: scaled products, a mask, Softmax, a second product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from shipway.graph.facts.dims import Dim, divide, product
from shipway.graph.facts.fact import Shape
from shipway.graph.masks import Mask, MaskTerms
from shipway.graph.patterns import dying, number_of, operands, private_producer
from shipway.graph.rules import Rewrite
from shipway.graph.view import View

__all__ = ["Attention", "Heads", "attention_rewrite", "find_attention", "single_heads", "unguarded"]

_RANK = 4
_FIRST_SOFTMAX_BY_AXIS = 13  # before, it ran over all dimensions from the second one on


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax(query @ key.T * scale + mask) @ value, each [batch, heads, tokens, size].

    Args:
        query: The queries.
        key: The keys; as many heads as the values have, and as the queries have or a divisor of it.
        value: The values.
        mask: What is added to the scores, of two to four dimensions, the last two complete.
        scale: What the scores are multiplied by.
        nodes: New nodes, in order, that compute what is in no graph yet.
        shapes: Of queries, keys and values.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    mask: ir.Value | None
    scale: float
    nodes: tuple[ir.Node, ...]
    shapes: tuple[Shape, Shape, Shape]


def attention_rewrite(node: ir.Node, found: Attention, view: View) -> Rewrite | None:
    """Return the operator in place of the last product; None where it would take more nodes."""
    inputs = [found.query, found.key, found.value]
    if found.mask is not None:
        inputs.append(found.mask)
    attention = view.node("Attention", inputs, {"scale": found.scale})
    nodes = (*found.nodes, attention)
    kept = [value for new in nodes for value in new.inputs if value is not None]
    return (
        None if len(nodes) > len(dying([node], kept)) else Rewrite((attention.outputs[0],), nodes)
    )


def unguarded(value: ir.Value | None, view: View) -> ir.Node | None:
    """Return the Softmax of probabilities in which NaN becomes zero; None for others."""
    where = private_producer(value, "Where", view)
    if where is None or number_of(where.inputs[1], view) != 0:
        return None
    probabilities = where.inputs[2]
    softmax = view.producer(probabilities, "Softmax")
    guard = private_producer(where.inputs[0], "IsNaN", view)
    if softmax is None or guard is None or guard.inputs[0] is not probabilities:
        return None
    output = softmax.outputs[0]
    return None if len(output.uses()) != 2 or output.is_graph_output() else softmax


class _Scores(NamedTuple):
    query: ir.Value
    key: ir.Value  # transposed
    mask: ir.Value | None
    scale: float


class Heads(NamedTuple):
    """Queries, keys or values, and their shape.

    Args:
        value: The tensor.
        shape: [batch, heads, tokens, size].
    """

    value: ir.Value
    shape: Shape


def find_attention(
    softmax: ir.Node, value: ir.Value | None, view: View, masks: MaskTerms | None
) -> Attention | None:
    """Return the attention that a product of probabilities and values ends; None where it is none.

    A row of scores of which the mask hides all, by minus infinity, is NaN when it is spelled out and
    zeros from some operators; some take the lowest number for minus infinity too. A mask that may
    hide such a row is refused then, and the lowest number is exchanged for its neighbour.

    Args:
        softmax: What makes probabilities of scores.
        value: The values.
        view: The graph.
        masks: What the operator makes of masks; None where it only adds them.
    """
    usual = -1 if view.opset >= _FIRST_SOFTMAX_BY_AXIS else 1
    if softmax.attributes.get_int("axis", usual) not in {-1, _RANK - 1}:
        return None
    scores = _scores(softmax.inputs[0], view)
    if scores is None or value is None or not 0 < scores.scale < np.inf:
        return None
    nodes: list[ir.Node] = []
    key, values = _upright(scores.key, nodes, view), single_heads(value, view)
    query = Heads(scores.query, _shape(scores.query, view) or ())
    if key is None or values is None or not _fit(query, key, values, view):
        return None
    mask = scores.mask
    if mask is not None:
        sizes = (*query.shape[:3], key.shape[2])
        mask = Mask(nodes, view, masks).fitted(mask, query.value, sizes)
        if mask is None:
            return None
    shapes = (query.shape, key.shape, values.shape)
    stacks = (query.value, key.value, values.value)
    return Attention(*stacks, mask, scores.scale, tuple(nodes), shapes)


def _shape(value: ir.Value | None, view: View) -> Shape | None:
    """Return the sizes of a value where no dimension is 0: then computed targets are sizes."""
    reshape = view.producer(value, "Reshape")
    target = None if reshape is None else view.content(reshape.inputs[1])
    if reshape is not None and target is not None:
        return _target_shape(reshape, target, view)
    transpose = view.producer(value, "Transpose")
    order = None if transpose is None else transpose.attributes.get_ints("perm")
    above = None if transpose is None or order is None else _shape(transpose.inputs[0], view)
    if above is None or order is None:
        return view.shape(value)
    return tuple(above[axis] for axis in order)


def _target_shape(reshape: ir.Node, target: Shape, view: View) -> Shape | None:
    source = _shape(reshape.inputs[0], view)
    found: list[Dim | None] = []
    for index, dim in enumerate(target):
        if dim == 0:
            found.append(None if source is None or index >= len(source) else source[index])
        else:
            found.append(None if dim == -1 else dim)
    known = [dim for dim in found if dim is not None]
    if len(known) == len(found):
        return tuple(known)
    if source is None or len(known) + 1 != len(found):
        return view.shape(reshape.outputs[0])
    rest = divide(product(source), product(known))
    if rest is None:
        return view.shape(reshape.outputs[0])
    return tuple(rest if dim is None else dim for dim in found)


def _scores(value: ir.Value | None, view: View) -> _Scores | None:
    """Return what the scores are made of: a product, scaled before or after, and a mask."""
    add = private_producer(value, "Add", view)
    if add is None:
        return _product(value, None, view)
    for scores, mask in operands(add):
        found = _product(scores, mask, view)
        if found is not None:
            return found
    return None


def _product(value: ir.Value | None, mask: ir.Value | None, view: View) -> _Scores | None:
    value, scale = _unscaled(value, view)
    matmul = private_producer(value, "MatMul", view)
    if matmul is None or matmul.inputs[0] is None or matmul.inputs[1] is None:
        return None
    query, before = _unscaled(matmul.inputs[0], view)
    key, beside = _unscaled(matmul.inputs[1], view)
    if query is None or key is None or _is_scaled(query, view) or _is_scaled(key, view):
        return None
    return _Scores(query, key, mask, scale * before * beside)


def _unscaled(value: ir.Value | None, view: View) -> tuple[ir.Value | None, float]:
    """Return a tensor and the number it is multiplied or divided by."""
    node = private_producer(value, "Mul", view, "Div")
    if node is None:
        return value, 1.0
    pairs = [(node.inputs[0], node.inputs[1])] if node.op_type == "Div" else list(operands(node))
    for tensor, factor in pairs:
        number = number_of(factor, view)
        rank = len(view.shape(tensor) or ())
        if number and tensor is not None and len(view.shape(factor) or ()) <= rank:
            return tensor, 1 / number if node.op_type == "Div" else number
    return value, 1.0


def _is_scaled(value: ir.Value, view: View) -> bool:
    """Whether a tensor is multiplied by one number that is computed: it may be folded later."""
    node = private_producer(value, "Mul", view, "Div")
    return node is not None and any(view.shape(one) in {(), (1,)} for one in node.inputs)


def _upright(key: ir.Value, nodes: list[ir.Node], view: View) -> Heads | None:
    """Return the keys as they were before they were transposed and their heads repeated."""
    transpose = view.producer(key, "Transpose")
    order = None if transpose is None else transpose.attributes.get_ints("perm")
    if transpose is not None and order is not None and list(order) == [0, 1, 3, 2]:
        return single_heads(transpose.inputs[0], view)
    if (flat := _transposed_by_batch(key, view)) is not None:
        return single_heads(flat, view)
    shape = _shape(key, view)
    if shape is None or len(shape) != _RANK:
        return None
    if (below := _transposed_below(key, shape, nodes, view)) is not None:
        return below
    if transpose is not None and list(order or ()) == [0, 2, 3, 1]:
        nodes.append(view.node("Transpose", transpose.inputs, {"perm": [0, 2, 1, 3]}))
    else:
        nodes.append(view.node("Transpose", [key], {"perm": [0, 1, 3, 2]}))
    return Heads(nodes[-1].outputs[0], (*shape[:2], shape[3], shape[2]))


def _transposed_by_batch(key: ir.Value, view: View) -> ir.Value | None:
    """Return keys that are transposed with batch and heads as one dimension, as torch exports them."""
    apart = view.producer(key, "Reshape")
    transpose = None if apart is None else view.producer(apart.inputs[0], "Transpose")
    together = None if transpose is None else view.producer(transpose.inputs[0], "Reshape")
    if transpose is None or together is None:
        return None
    order = transpose.attributes.get_ints("perm") or ()
    above = together.inputs[0]
    shapes = [_shape(one, view) or () for one in (above, together.outputs[0], key)]
    before, matrix, after = shapes
    if list(order) != [0, 2, 1] or len(before) != _RANK or len(after) != _RANK:
        return None
    same = matrix[1:] == before[2:] and (*after[:2], after[3], after[2]) == before
    return above if same and len(matrix) == 3 else None


def _transposed_below(
    key: ir.Value, shape: Shape, nodes: list[ir.Node], view: View
) -> Heads | None:
    """Return keys whose last dimensions were swapped before the others were reshaped."""
    reshape = view.producer(key, "Reshape")
    transpose = None if reshape is None else view.producer(reshape.inputs[0], "Transpose")
    target = None if reshape is None else view.array(reshape.inputs[1])
    if reshape is None or transpose is None or target is None:
        return None
    before, order = view.shape(transpose.outputs[0]) or (), transpose.attributes.get_ints("perm")
    rank = len(before)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    if rank < 2 or list(order or ()) != swapped or before[-2:] != shape[2:] or not all(target):
        return None
    upright = [int(target[place]) for place in (0, 1, 3, 2)]
    nodes.append(view.node("Reshape", [transpose.inputs[0], view.integers(upright)]))
    return Heads(nodes[-1].outputs[0], (*shape[:2], shape[3], shape[2]))


def single_heads(value: ir.Value | None, view: View) -> Heads | None:
    """Return keys or values before each head was repeated for a group of queries."""
    shape = _shape(value, view)
    if value is None or shape is None or len(shape) != _RANK:
        return None
    source, single = _grouped(value, view)
    if source is None:
        return Heads(value, shape)
    return Heads(source, single)


def _grouped(value: ir.Value, view: View) -> tuple[ir.Value | None, Shape]:
    """Return what is repeated along a new axis behind the heads, which are then one again."""
    whole = view.producer(value, "Reshape")
    copies = None if whole is None else view.producer(whole.inputs[0], "Expand")
    column = None if copies is None else view.producer(copies.inputs[0], "Unsqueeze", "Reshape")
    if whole is None or copies is None or column is None:
        return None, ()
    single, many = view.shape(column.inputs[0]), view.shape(copies.outputs[0])
    if single is None or many is None or len(single) != _RANK or len(many) != _RANK + 1:
        return None, ()
    batch, heads, tokens, size = single
    group = many[2]
    if not isinstance(heads, int) or not isinstance(group, int):
        return None, ()
    repeated = many == (batch, heads, group, tokens, size)
    apart = view.shape(column.outputs[0]) == (batch, heads, 1, tokens, size)
    if not repeated or not apart or _shape(value, view) != (batch, heads * group, tokens, size):
        return None, ()
    return column.inputs[0], single


def _fit(query: Heads, key: Heads, value: Heads, view: View) -> bool:
    """Whether batch and heads belong together, and everything is float32."""
    if len(query.shape) != _RANK or view.fact(query.value).dtype is not ir.DataType.FLOAT:
        return False
    heads, group = query.shape[1], key.shape[1]
    same = key.shape[:3] == value.shape[:3] and query.shape[0] == key.shape[0]
    if not same or query.shape[3] != key.shape[3]:
        return False
    if isinstance(heads, int) and isinstance(group, int):
        return group > 0 and heads % group == 0
    return heads == group
