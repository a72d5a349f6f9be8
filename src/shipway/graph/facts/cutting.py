"""Shapes and content of operators that cut tensors into pieces: Slice and Split."""

from __future__ import annotations

from collections.abc import Sequence

from shipway.graph.facts.dims import Dim, add, divide, is_nonnegative, subtract
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.registry import Call, shapes_of

_FAR = 2**31 - 1  # exporters write "to the end" as one of several huge numbers


@shapes_of("Slice")
def _slice(call: Call) -> Sequence[Fact]:
    first, shape = call.first, call.first.shape
    if shape is None:
        return [Fact(first.dtype)]
    cuts = _cuts(call, len(shape))
    if cuts is None:
        return [Fact(first.dtype, tuple(call.knowledge.fresh() for _ in shape))]
    sizes, content = list(shape), first.content
    for axis, start, end, step in cuts:
        size = _cut_size(shape[axis], start, end, step)
        sizes[axis] = call.knowledge.fresh() if size is None else size
    if content is not None:
        _, start, end, step = cuts[0] if cuts else (0, 0, len(content), 1)
        if isinstance(start, int) and isinstance(end, int) and (step > 0 or end < _FAR):
            content = content[_python_slice(start, end, step, len(content))]
        else:
            content = None
        sizes = sizes if content is None else [len(content)]
    return [Fact(first.dtype, tuple(sizes), content)]


def _cuts(call: Call, rank: int) -> list[tuple[int, Dim, Dim, int]] | None:
    """Return axis, start, end and step of each cut; None where axes or steps are unknown."""
    if len(call.inputs) < 3:
        starts: Sequence[Dim] | None = call.ints("starts")
        ends: Sequence[Dim] | None = call.ints("ends")
        axes, steps = call.ints("axes"), None
        has_axes = axes is not None
    else:
        starts, ends = call.facts[1].content, call.facts[2].content
        axes, steps = call.integers(3), call.integers(4)
        has_axes = call.has(3)
        if call.has(4) and steps is None:
            return None
    if starts is None or ends is None or (has_axes and axes is None):
        return None
    axes = axes if axes is not None else tuple(range(len(starts)))
    steps = steps if steps is not None else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        return None
    return [(axis % rank, *rest) for axis, *rest in zip(axes, starts, ends, steps, strict=True)]  # type: ignore[misc] # mypy loses the types of *rest


def _cut_size(size: Dim, start: Dim, end: Dim, step: int) -> Dim | None:
    if step < 0 and isinstance(end, int) and end >= _FAR:
        return None  # ONNX takes nothing; ONNX Runtime reads it as no end
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(size)[_python_slice(start, end, step, size)])
    if step != 1:
        return None
    if isinstance(end, int) and end >= _FAR:
        end = size
    if start == 0 and end == size:
        return size
    return _symbolic_cut(size, start, end)


def _symbolic_cut(size: Dim, start: Dim, end: Dim) -> Dim | None:
    """Return `end - start` where both certainly lie within the axis, in this order."""
    low, high = (
        add(size, place) if isinstance(place, int) and place < 0 else place
        for place in (start, end)
    )
    inside = is_nonnegative(low) and is_nonnegative(subtract(size, high))
    length = subtract(high, low)
    return length if inside and is_nonnegative(length) else None


def _python_slice(start: int, end: int, step: int, size: int) -> slice:
    """Return what ONNX cuts as Python's slice: both differ before the first element."""
    if step > 0:
        return slice(start, end, step)
    return slice(max(start, -size), None if end < -size else end, step)


@shapes_of("Split")
def _split(call: Call) -> Sequence[Fact]:
    shape, count = call.first.shape, len(call.node.outputs)
    if shape is None:
        return [Fact(call.first.dtype)] * count
    axis = call.int("axis") % len(shape)
    sizes: Sequence[Dim] | None = call.ints("split")
    if call.has(1):
        sizes = call.facts[1].content
    elif sizes is None:
        sizes = _even_parts(shape[axis], count)
    if sizes is None or len(sizes) != count:
        sizes = [call.knowledge.fresh() for _ in range(count)]
    parts = _parts(call.first.content, sizes)
    return [
        Fact(call.first.dtype, (*shape[:axis], size, *shape[axis + 1 :]), part)
        for size, part in zip(sizes, parts, strict=True)
    ]


def _parts(
    content: tuple[Dim, ...] | None, sizes: Sequence[Dim]
) -> Sequence[tuple[Dim, ...] | None]:
    """Cut the numbers of a vector into parts."""
    known = [size for size in sizes if isinstance(size, int)]
    if content is None or len(known) < len(sizes) or sum(known) != len(content):
        return [None] * len(sizes)
    starts = [sum(known[:index]) for index in range(len(known))]
    return [content[start : start + size] for start, size in zip(starts, known, strict=True)]


def _even_parts(size: Dim, count: int) -> Sequence[Dim] | None:
    if isinstance(size, int):
        part = -(-size // count)
        return [*[part] * (count - 1), size - part * (count - 1)]
    part_size = divide(size, count)
    return None if part_size is None else [part_size] * count
