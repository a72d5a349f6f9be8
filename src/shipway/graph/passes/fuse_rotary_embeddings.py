"""Makes one RotaryEmbedding of the nodes that spell it out.

Cases: `x * cos + rotated(x) * sin`, where `rotated` swaps the halves of the last axis, or each two
neighbours, and negates one of them; the two parts computed apart and joined. x is [batch, heads,
tokens, size] or [batch, tokens, heads, size]; cosines and sines are computed, gathered or constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import onnx_ir as ir

from shipway.graph.angles import Angles, Rotated
from shipway.graph.facts.dims import Dim
from shipway.graph.patterns import count_new, dying, operands, private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_RANK = 4
_SMALL_BYTES = 4096
_ENDS = ("Add", "Concat", "Reshape")
_WAYS = frozenset({"Add", "Sub", "Concat", "Unsqueeze", "Reshape"})
_LONGEST = 4  # product, difference, column, pair, whole


class _Rotation(NamedTuple):
    source: ir.Value
    cos: ir.Value
    sin: ir.Value
    paired: bool
    is_wide: bool  # whether cosines and sines are there for both parts


class _Parts(NamedTuple):
    source: ir.Value
    paired: bool


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose RotaryEmbedding with cosines and sines of one part, one row for each batch and token."""
    if (partial := _partial(node, view)) is not None:
        return partial
    found = _rotation(node, view)
    if found is None or view.fact(found.source).dtype is not ir.DataType.FLOAT:
        return None
    shape = view.shape(found.source)
    if shape is None or len(shape) != _RANK or shape != view.shape(node.outputs[0]):
        return None
    for tokens in (2, 1):
        angles = Angles(view, Rotated(found.source, tokens, found.paired))
        cos = angles.cache(found.cos, is_wide=found.is_wide)
        sin = angles.cache(found.sin, is_wide=found.is_wide)
        heads = shape[3 - tokens]
        if cos is None or sin is None or not isinstance(heads, int):
            continue
        nodes = _rotary(found, (cos, sin), heads if tokens == 1 else 0, view)
        if nodes is not None and _pays(node, found, angles, len(nodes), view):
            return Rewrite((nodes[-1].outputs[0],), (*angles.nodes, *nodes))
    return None


def _partial(node: ir.Node, view: View) -> Rewrite | None:
    """Propose to rotate the first part of a tensor only, where the rest is joined to it again."""
    rotary = private_producer(node.inputs[0], "RotaryEmbedding", view)
    source = None if rotary is None else rotary.inputs[0]
    split = view.producer(source, "Split")
    if node.op_type != "Concat" or rotary is None or split is None or len(node.inputs) != 2:
        return None
    rank = len(view.shape(node.outputs[0]) or ())
    axes = {one.attributes.get_int("axis", 0) % max(rank, 1) for one in (node, split)}
    size = (view.shape(source) or (None,))[-1]
    parts = (source, node.inputs[1])
    if rank != _RANK or axes != {_RANK - 1} or tuple(split.outputs) != parts:
        return None
    if not isinstance(size, int) or size % 2:
        return None
    attributes = {name: one.value for name, one in rotary.attributes.items()}
    inputs = [split.inputs[0], *rotary.inputs[1:]]
    whole = view.node("RotaryEmbedding", inputs, attributes | {"rotary_embedding_dim": size})
    return Rewrite((whole.outputs[0],), (whole,))


def _rotary(
    found: _Rotation, caches: tuple[ir.Value, ir.Value], heads: int, view: View
) -> list[ir.Node] | None:
    """Return the operator; tokens before heads are its form of three dimensions."""
    attributes = {"interleaved": int(found.paired)}
    if not heads:
        return [view.node("RotaryEmbedding", [found.source, *caches], attributes)]
    size = (view.shape(found.source) or ())[-1]
    if not isinstance(size, int):
        return None
    flat = view.node("Reshape", [found.source, view.integers([0, 0, heads * size])])
    inputs = [flat.outputs[0], *caches]
    rotary = view.node("RotaryEmbedding", inputs, attributes | {"num_heads": heads})
    apart = [rotary.outputs[0], view.integers([0, 0, heads, size])]
    return [flat, rotary, view.node("Reshape", apart)]


def _pays(node: ir.Node, found: _Rotation, angles: Angles, count: int, view: View) -> bool:
    """Whether no more nodes and bytes come than go; rotations by the same angles share theirs."""
    alike = list(dict.fromkeys([node, *_with_same_angles(found, angles.tokens, view)]))
    kept = [value for new in angles.nodes for value in new.inputs if value is not None]
    gone = dying(alike, [found.source, *kept])
    return count_new(angles.nodes) + count * len(alike) <= len(gone) and all(
        one.const_value is not None
        and (one.const_value.nbytes <= _SMALL_BYTES or all(use.node in gone for use in one.uses()))
        for one in angles.tables
    )


def _with_same_angles(found: _Rotation, tokens: int, view: View) -> Iterator[ir.Node]:
    """Yield what other rotations by the same cosines and sines end in."""
    places = _places(found, tokens, view)
    for use in found.cos.uses():
        for node in _behind(use.node, _LONGEST):
            other = _rotation(node, view)
            if (
                other is not None
                and other[1:] == found[1:]
                and _places(other, tokens, view) == places
            ):
                yield node


def _places(found: _Rotation, tokens: int, view: View) -> tuple[Dim, Dim, Dim] | None:
    """Return batch, tokens and size of what is rotated."""
    shape = view.shape(found.source)
    return None if shape is None or len(shape) != _RANK else (shape[0], shape[tokens], shape[3])


def _behind(node: ir.Node, steps: int) -> Iterator[ir.Node]:
    for use in node.outputs[0].uses():
        if use.node.op_type in _ENDS:
            yield use.node
        if steps > 1 and use.node.op_type in _WAYS:
            yield from _behind(use.node, steps - 1)


def _rotation(node: ir.Node, view: View) -> _Rotation | None:
    if node.op_type == "Add":
        return _turned(node, view)
    return _joined(node, view)


def _turned(node: ir.Node, view: View) -> _Rotation | None:
    """Recognise `x * cos + rotated(x) * sin`."""
    for first, second in operands(node):
        straight, crossed = (private_producer(one, "Mul", view) for one in (first, second))
        if straight is None or crossed is None:
            continue
        for turned, sin in operands(crossed):
            parts = _swapped(turned, view)
            for source, cos in operands(straight):
                if parts is not None and parts.source is source and cos and sin:
                    return _Rotation(source, cos, sin, parts.paired, is_wide=True)
    return None


def _swapped(value: ir.Value | None, view: View) -> _Parts | None:
    """Recognise (-second, first), joined; return what the two are parts of."""
    joined = _join(value, view)
    if joined is None:
        return None
    negated, first, paired = joined
    negation = private_producer(negated, "Neg", view)
    parts = None if negation is None else _parts(first, negation.inputs[0], view)
    return parts if parts is not None and parts.paired == paired else None


def _joined(node: ir.Node, view: View) -> _Rotation | None:
    """Recognise (first * cos - second * sin, second * cos + first * sin), joined."""
    joined = _join(node.outputs[0], view)
    if joined is None:
        return None
    real, imaginary, paired = joined
    difference, total = (
        private_producer(real, "Sub", view),
        private_producer(imaginary, "Add", view),
    )
    if difference is None or total is None:
        return None
    products = [private_producer(one, "Mul", view) for one in difference.inputs]
    others = [private_producer(one, "Mul", view) for one in total.inputs]
    if None in products or None in others:
        return None
    sums = {frozenset(one.inputs) for one in others if one is not None}
    left, right = (one for one in products if one is not None)
    for first, cos in operands(left):
        for second, sin in operands(right):
            if sums != {frozenset((second, cos)), frozenset((first, sin))}:
                continue
            parts = _parts(first, second, view)
            if parts is not None and parts.paired == paired and cos and sin:
                return _Rotation(parts.source, cos, sin, paired, is_wide=False)
    return None


def _join(value: ir.Value | None, view: View) -> tuple[ir.Value, ir.Value, bool] | None:
    """Return the two parts of a tensor: its halves, or every second number each."""
    shape = view.shape(value) or ()
    concat = view.producer(value, "Concat")
    if concat is not None:
        first, second = concat.inputs if len(concat.inputs) == 2 else (None, None)
        is_last = concat.attributes.get_int("axis", 0) in {-1, len(shape) - 1}
        return (first, second, False) if is_last and first and second else None
    reshape = view.producer(value, "Reshape")
    concat = None if reshape is None else private_producer(reshape.inputs[0], "Concat", view)
    if concat is None or len(concat.inputs) != 2 or not shape or not isinstance(shape[-1], int):
        return None
    columns = [private_producer(one, "Unsqueeze", view, "Reshape") for one in concat.inputs]
    first, second = (None if one is None else one.inputs[0] for one in columns)
    half = (*shape[:-1], shape[-1] // 2)
    fits = view.shape(first) == view.shape(second) == half
    wide = all(view.shape(one) == (*half, 1) for one in concat.inputs)
    whole = view.shape(concat.outputs[0]) == (*half, 2)
    return (first, second, True) if fits and wide and whole and first and second else None


def _parts(first: ir.Value | None, second: ir.Value | None, view: View) -> _Parts | None:
    """Return what two values are the halves of, or the even and odd places."""
    split = view.producer(first, "Split")
    if split is not None and split is view.producer(second, "Split"):
        return _halves(split, (first, second), view)
    for op_type, place in (("Slice", _strided), ("Gather", _column)):
        nodes = [view.producer(one, op_type) for one in (first, second)]
        sources = [
            None if one is None else place(one, start, view) for start, one in enumerate(nodes)
        ]
        if sources[0] is not None and sources[0] is sources[1]:
            return _Parts(sources[0], paired=True)
    return None


def _halves(
    split: ir.Node, outputs: tuple[ir.Value | None, ir.Value | None], view: View
) -> _Parts | None:
    source, sizes = split.inputs[0], [view.shape(one) for one in split.outputs]
    is_last = split.attributes.get_int("axis", 0) in {-1, len(sizes[0] or ()) - 1}
    if source is None or tuple(split.outputs) != outputs or not is_last or sizes[0] != sizes[1]:
        return None
    return _Parts(source, paired=False) if sizes[0] is not None else None


def _strided(node: ir.Node, start: int, view: View) -> ir.Value | None:
    """Return what a Slice takes every second number of, along the last axis."""
    source = node.inputs[0]
    shape = view.shape(source)
    if len(node.inputs) < 5 or not shape or not isinstance(shape[-1], int):
        return None
    starts, ends, axes, steps = (view.knowledge.integers(one) for one in node.inputs[1:5])
    is_last = axes is not None and len(axes) == 1 and axes[0] % len(shape) == len(shape) - 1
    if not is_last or starts != (start,) or steps != (2,) or not ends:
        return None
    return source if ends[0] >= shape[-1] else None


def _column(node: ir.Node, index: int, view: View) -> ir.Value | None:
    """Return the tensor of whose pairs a Gather takes the first or second number."""
    reshape = view.producer(node.inputs[0], "Reshape")
    pairs, source = view.shape(node.inputs[0]), None if reshape is None else reshape.inputs[0]
    whole = view.shape(source)
    if not pairs or not whole or not isinstance(whole[-1], int) or whole[-1] % 2:
        return None
    if pairs != (*whole[:-1], whole[-1] // 2, 2):
        return None
    is_last = node.attributes.get_int("axis", 0) % len(pairs) == len(pairs) - 1
    picked = view.array(node.inputs[1])
    return (
        source if is_last and picked is not None and picked.ndim == 0 and picked == index else None
    )


RULE = Rule(
    "fuse_rotary_embeddings",
    "reassociating",
    "Makes one RotaryEmbedding of products with cosines and sines: halves or neighbours rotated.",
    _ENDS,
    propose,
    opset=23,
)
