"""Shapes and content of operators that move elements and compute none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from shipway.graph.facts.broadcasting import broadcast
from shipway.graph.facts.dims import (
    Dim,
    add,
    divide,
    is_nonnegative,
    multiply,
    product,
    subtract,
    vanishes_with,
)
from shipway.graph.facts.fact import Fact, Shape
from shipway.graph.facts.knowledge import CONTENT_DTYPES, CONTENT_SIZE, content_of
from shipway.graph.facts.registry import Call, shapes_of

_LARGEST_RANK = 1024  # a file may declare any, and each dimension would get a name


@shapes_of("Shape")
def _shape(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    if shape is None:
        return [Fact(ir.DataType.INT64)]
    end = call.int("end") if "end" in call.node.attributes else None
    part = shape[slice(call.int("start"), end)]
    return [Fact(ir.DataType.INT64, (len(part),), part)]


@shapes_of("Size")
def _size(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    return [Fact(ir.DataType.INT64, (), None if shape is None else (product(shape),))]


@shapes_of("Transpose")
def _transpose(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    if shape is None:
        return [Fact(call.first.dtype)]
    order = call.ints("perm") or tuple(reversed(range(len(shape))))
    return [Fact(call.first.dtype, tuple(shape[axis] for axis in order))]


@shapes_of("Reshape")
def _reshape(call: Call) -> Sequence[Fact]:
    first = call.first
    target = call.facts[1].content if call.has(1) else call.ints("shape")
    if target is None:
        return [Fact(first.dtype, _unnamed(call, call.facts[1].shape if call.has(1) else None))]
    sizes = _resolved(call, first.shape, target, literal_zero=bool(call.int("allowzero")))
    return [Fact(first.dtype, sizes, first.content if len(sizes) <= 1 else None)]


def _unnamed(call: Call, shape: Shape | None) -> Shape | None:
    """Return sizes nobody knows, as many as a shape vector has numbers."""
    if shape is None or len(shape) != 1 or not isinstance(shape[0], int):
        return None
    if shape[0] > _LARGEST_RANK:
        return None
    return tuple(call.knowledge.fresh() for _ in range(shape[0]))


def _resolved(
    call: Call, shape: Shape | None, target: Sequence[Dim], *, literal_zero: bool
) -> Shape:
    sizes: list[Dim | None] = []
    no_zero = literal_zero or call.knowledge.nonempty
    for index, dim in enumerate(target):
        if dim == 0 and not literal_zero:
            known = shape is not None and index < len(shape)
            sizes.append(shape[index] if known and shape is not None else None)
        elif dim == -1 or not _is_size(dim, index, shape, no_zero=no_zero):
            sizes.append(None)
        else:
            sizes.append(dim)
    return _filled(call, shape, sizes, target)


def _is_size(dim: Dim, index: int, shape: Shape | None, *, no_zero: bool) -> bool:
    """Whether a number of a target shape is a size for certain: it might be -1 or 0 otherwise.

    A computed 0 copies the dimension of the input, which is 0 only where it holds the same names.
    """
    if isinstance(dim, int) or not is_nonnegative(dim):
        return is_nonnegative(dim)
    if no_zero:
        return True
    return shape is not None and index < len(shape) and vanishes_with(shape[index], dim)


def _filled(
    call: Call, shape: Shape | None, sizes: list[Dim | None], target: Sequence[Dim]
) -> Shape:
    """Work out the one size that is left open from the number of elements; name the others.

    An engine refuses -1 beside sizes that multiply to 0. Next to any other number they may, and the
    number of elements says nothing then.
    """
    left = [index for index, dim in enumerate(sizes) if dim is None]
    if len(left) == 1 and shape is not None:
        known = product(dim for dim in sizes if dim is not None)
        if target[left[0]] == -1 or call.knowledge.nonempty or (isinstance(known, int) and known):
            sizes[left[0]] = divide(product(shape), known)
    return tuple(call.knowledge.fresh() if dim is None else dim for dim in sizes)


@shapes_of("Flatten")
def _flatten(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    if shape is None:
        return [Fact(call.first.dtype, (call.knowledge.fresh(), call.knowledge.fresh()))]
    axis = call.int("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return [Fact(call.first.dtype, (product(shape[:axis]), product(shape[axis:])))]


@shapes_of("Squeeze")
def _squeeze(call: Call) -> Sequence[Fact]:
    first, shape = call.first, call.first.shape
    axes = call.integers(1) if call.has(1) else call.ints("axes")
    if shape is None or (axes is None and call.has(1)):
        return [Fact(first.dtype)]
    if axes is None:
        if not all(isinstance(dim, int) for dim in shape):
            return [Fact(first.dtype)]
        axes = tuple(index for index, dim in enumerate(shape) if dim == 1)
    gone = {axis % len(shape) for axis in axes}
    kept = tuple(dim for index, dim in enumerate(shape) if index not in gone)
    return [Fact(first.dtype, kept, first.content)]


@shapes_of("Unsqueeze")
def _unsqueeze(call: Call) -> Sequence[Fact]:
    first, shape = call.first, call.first.shape
    axes = call.integers(1) if call.has(1) else call.ints("axes")
    if shape is None or axes is None:
        return [Fact(first.dtype)]
    rank = len(shape) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(shape)
    found = tuple(1 if index in new else next(old) for index in range(rank))
    return [Fact(first.dtype, found, first.content if rank <= 1 else None)]


@shapes_of("Concat")
def _concat(call: Call) -> Sequence[Fact]:
    shapes = [fact.shape for fact in call.facts if fact.shape is not None]
    if len(shapes) < len(call.facts):
        return [Fact(call.first.dtype)]
    rank = len(shapes[0])
    axis = call.int("axis", 1 if call.knowledge.opset < 4 else 0) % rank
    sizes = list(shapes[0])
    for index in range(rank):
        sizes[index] = next((s[index] for s in shapes if isinstance(s[index], int)), sizes[index])
    sizes[axis] = 0
    for shape in shapes:
        sizes[axis] = add(sizes[axis], shape[axis])
    parts = [fact.content for fact in call.facts]
    content = None
    if rank == 1 and all(part is not None for part in parts):
        content = tuple(dim for part in parts for dim in part or ())
    return [Fact(call.first.dtype, tuple(sizes), content)]


@shapes_of("Gather")
def _gather(call: Call) -> Sequence[Fact]:
    first, indices = call.first, call.facts[1]
    if first.shape is None or indices.shape is None:
        return [Fact(first.dtype)]
    axis = call.int("axis") % len(first.shape)
    places, content = call.knowledge.integers(call.inputs[1]), None
    if first.content is not None and len(first.shape) == 1 and places is not None:
        size = len(first.content)
        if len(indices.shape) <= 1 and all(-size <= place < size for place in places):
            content = tuple(first.content[place] for place in places)
    shape = first.shape[:axis] + indices.shape + first.shape[axis + 1 :]
    return [Fact(first.dtype, shape, content)]


@shapes_of("GatherElements")
def _gather_elements(call: Call) -> Sequence[Fact]:
    return [Fact(call.first.dtype, call.facts[1].shape)]


@shapes_of("ScatterND", "ScatterElements", "Scatter", "ReverseSequence", "TensorScatter")
def _same_shape(call: Call) -> Sequence[Fact]:
    return [Fact(call.first.dtype, call.first.shape)]


@shapes_of("GatherND")
def _gather_nd(call: Call) -> Sequence[Fact]:
    first, indices = call.first.shape, call.facts[1].shape
    if first is None or not indices or not isinstance(indices[-1], int):
        return [Fact(call.first.dtype)]
    batch = call.int("batch_dims")
    return [Fact(call.first.dtype, indices[:-1] + first[batch + indices[-1] :])]


@shapes_of("Expand")
def _expand(call: Call) -> Sequence[Fact]:
    first, target = call.first, call.facts[1].content
    if first.shape is None:
        return [Fact(first.dtype)]
    if target is None:
        shape = _unnamed(call, call.facts[1].shape)
        longer = (
            None if shape is None else (*shape, *first.shape)[: max(len(shape), len(first.shape))]
        )
        unnamed = None if longer is None else tuple(call.knowledge.fresh() for _ in longer)
        return [Fact(first.dtype, unnamed)]
    if not all(map(is_nonnegative, target)):
        length = max(len(target), len(first.shape))
        return [Fact(first.dtype, tuple(call.knowledge.fresh() for _ in range(length)))]
    sizes = broadcast((first.shape, tuple(target)), call.knowledge)
    content = _repeated(first.content, sizes)
    return [Fact(first.dtype, sizes, content)]


def _repeated(content: tuple[Dim, ...] | None, shape: Shape | None) -> tuple[Dim, ...] | None:
    if content is None or shape is None or len(shape) > 1:
        return None
    size = shape[0] if shape else 1
    if not isinstance(size, int) or size > CONTENT_SIZE:
        return None
    if len(content) == size:
        return content
    return content * size if len(content) == 1 else None


@shapes_of("Tile")
def _tile(call: Call) -> Sequence[Fact]:
    shape, repeats = call.first.shape, call.facts[1].content
    if shape is None or repeats is None or len(repeats) != len(shape):
        return [Fact(call.first.dtype)]
    return [Fact(call.first.dtype, tuple(map(multiply, shape, repeats)))]


@shapes_of("Pad")
def _pad(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    pads: Sequence[Dim] | None = call.ints("pads") or call.ints("paddings")
    if len(call.inputs) > 1:
        pads = call.facts[1].content
    if shape is None:
        return [Fact(call.first.dtype)]
    axes = call.integers(3) if call.has(3) else tuple(range(len(shape)))
    sizes: list[Dim] = [call.knowledge.fresh() for _ in shape]
    if pads is not None and axes is not None and len(pads) == 2 * len(axes):
        sizes = list(shape)
        for index, axis in enumerate(axes):
            grown = add(sizes[axis], pads[index])
            sizes[axis] = add(grown, pads[index + len(axes)])
    return [Fact(call.first.dtype, tuple(sizes))]


@shapes_of("ConstantOfShape")
def _constant_of_shape(call: Call) -> Sequence[Fact]:
    attribute = call.node.attributes.get("value")
    dtype, filling = ir.DataType.FLOAT, None
    if attribute is not None:
        tensor: Any = attribute.value
        dtype = tensor.dtype
        filling = content_of(tensor.numpy()) if dtype in CONTENT_DTYPES else None
    target = call.facts[0].content
    if target is None:
        return [Fact(dtype, _unnamed(call, call.facts[0].shape))]
    if not all(map(is_nonnegative, target)):
        return [Fact(dtype, tuple(call.knowledge.fresh() for _ in target))]
    return [Fact(dtype, tuple(target), _repeated(filling, tuple(target)))]


@shapes_of("Range")
def _range(call: Call) -> Sequence[Fact]:
    start, limit, step = (fact.content for fact in call.facts)
    known = [call.knowledge.integers(value) for value in call.inputs]
    if call.first.dtype in CONTENT_DTYPES and all(part is not None for part in known):
        numbers = range(*(part[0] for part in known if part))
        content = tuple(numbers) if len(numbers) <= CONTENT_SIZE else None
        return [Fact(call.first.dtype, (len(numbers),), content)]
    if start and limit and step == (1,) and call.first.dtype in CONTENT_DTYPES:
        length = subtract(limit[0], start[0])
        if is_nonnegative(length):
            return [Fact(call.first.dtype, (length,))]
    return [Fact(call.first.dtype, (call.knowledge.fresh(),))]


@shapes_of("OneHot")
def _one_hot(call: Call) -> Sequence[Fact]:
    shape, depth, dtype = call.first.shape, call.facts[1].content, call.facts[2].dtype
    if shape is None:
        return [Fact(dtype)]
    size = depth[0] if depth and is_nonnegative(depth[0]) else call.knowledge.fresh()
    axis = call.int("axis", -1) % (len(shape) + 1)
    return [Fact(dtype, (*shape[:axis], size, *shape[axis:]))]


@shapes_of("DepthToSpace", "SpaceToDepth")
def _blocks(call: Call) -> Sequence[Fact]:
    shape, block = call.first.shape, call.int("blocksize", 1)
    if shape is None or len(shape) != 4:
        return [Fact(call.first.dtype)]
    fewer = call.node.op_type == "DepthToSpace"
    channels, *planes = shape[1:]
    sizes: list[Dim | None] = [shape[0]]
    sizes.append(divide(channels, block * block) if fewer else multiply(channels, block * block))
    sizes += [multiply(dim, block) if fewer else divide(dim, block) for dim in planes]
    named = tuple(call.knowledge.fresh() if dim is None else dim for dim in sizes)
    return [Fact(call.first.dtype, named)]
