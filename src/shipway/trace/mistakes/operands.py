"""Operands: swapped, left out, transposed, another one taken."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake, call_named, sizes_of

__all__ = ["MISTAKES", "taken_out"]

_BIASES: Mapping[str, str] = {
    "linear": "bias",
    "conv1d": "bias",
    "conv2d": "bias",
    "conv3d": "bias",
    "convolution": "bias",
    "conv_transpose1d": "bias",
    "conv_transpose2d": "bias",
    "conv_transpose3d": "bias",
}


def _swappable(left: str, right: str) -> Callable[[Call], Iterator[Mistake]]:
    """Return the mistake of swapping two tensors, where the result keeps its shape."""

    def mistakes(call: Call) -> Iterator[Mistake]:
        mine, theirs = call.sizes(left), call.sizes(right)
        if mine is not None and theirs is not None and _broadcasts(call, mine, theirs):
            yield call.swapped(left, right)

    return mistakes


def _broadcasts(call: Call, mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether the swapped call has the same shape: always where operands are met one by one."""
    if call.name in {"matmul", "mm", "bmm"}:
        return mine == theirs and len(mine) >= 2 and mine[-1] == mine[-2]
    return bool(call.arguments.get("alpha", 1) == 1)


def _sub(call: Call) -> Iterator[Mistake]:
    yield from _swappable("self", "other")(call)
    yield Mistake("input", "sum instead of difference", _as("add", call))


def _div(call: Call) -> Iterator[Mistake]:
    yield from _swappable("self", "other")(call)
    yield Mistake("input", "product instead of quotient", _as("mul", call))


def _add(call: Call) -> Iterator[Mistake]:
    if call.sizes("self") == call.sizes():
        yield call.replaced("input", "only the first of two summands", lambda x: x)
    if call.sizes("other") == call.sizes():
        yield Mistake("input", "only the second of two summands", lambda named: named["other"])
    yield Mistake("input", "difference instead of sum", _as("sub", call))


def _mul(call: Call) -> Iterator[Mistake]:
    sizes = call.sizes("other")
    if call.sizes("self") == call.sizes():
        yield call.replaced("input", "only the first of two factors", lambda x: x)
    if sizes is not None and sizes == call.sizes():
        yield Mistake("input", "only the second of two factors", lambda named: named["other"])
    yield Mistake("input", "sum instead of product", _as("add", call))


def _as(name: str, call: Call) -> Callable[[dict[str, Any]], Any]:
    import torch

    function = getattr(torch, name)
    alpha = {"alpha"} & set(call.arguments) if name != "mul" else set()

    def apply(named: dict[str, Any]) -> Any:
        return function(named["self"], named["other"], **{one: named[one] for one in alpha})

    return apply


def _pow(call: Call) -> Iterator[Mistake]:
    yield from _swappable("self", "exponent")(call)


def _where(call: Call) -> Iterator[Mistake]:
    yield from _swappable("self", "other")(call)


def _weighted(call: Call) -> Iterator[Mistake]:
    """Linear layers and convolutions: no bias, the weight another way round."""
    bias = _BIASES[call.name]
    if call.arguments.get(bias) is not None:
        yield call.changed("offset", f"{call.name} without its bias", **{bias: None})
    sizes = call.sizes("weight") or ()
    if call.name == "linear" and len(sizes) == 2 and sizes[0] == sizes[1]:
        yield call.on("layout", "linear with its weight transposed", "weight", lambda w: w.t())
    if call.name.startswith("conv"):
        yield from _kernels(call, sizes)
    if call.name in {"conv1d", "conv2d", "conv3d"}:
        yield from _paddings(call)


def _kernels(call: Call, sizes: tuple[str, ...]) -> Iterator[Mistake]:
    space = list(range(2, len(sizes)))
    if any(sizes[axis] != "1" for axis in space):
        title = f"{call.name} with its kernel mirrored"
        yield call.on("layout", title, "weight", lambda w: w.flip(space))
    if len(space) == 2 and sizes[2] == sizes[3] != "1":
        title = f"{call.name} with height and width of its kernel swapped"
        yield call.on("layout", title, "weight", lambda w: w.transpose(2, 3))
    if len(sizes) > 2 and sizes[0] == sizes[1] != "1":
        title = f"{call.name} with input and output channels of its weight swapped"
        yield call.on("layout", title, "weight", lambda w: w.transpose(0, 1))


def _paddings(call: Call) -> Iterator[Mistake]:
    """All of the padding on one side: what SAME_UPPER and SAME_LOWER differ in, at its largest."""
    from torch.nn import functional

    padding = call.arguments["padding"]
    widths = padding if isinstance(padding, list | tuple) else ()
    if not widths or not all(isinstance(width, int) and width > 0 for width in widths):
        return
    rank = int(call.name[4])
    widths = list(widths) * (rank if len(widths) == 1 else 1)
    for side, name in ((0, "end"), (1, "start")):
        pads = [width * 2 * (at != side) for width in reversed(widths) for at in (0, 1)]

        def apply(named: dict[str, Any], pads: list[int] = pads) -> Any:
            padded = functional.pad(named["input"], pads)
            return call_named(call.node.target, {**named, "input": padded, "padding": [0] * rank})

        yield Mistake("layout", f"{call.name} with its padding at the {name} only", apply)


def _addmm(call: Call) -> Iterator[Mistake]:
    import torch

    yield call.on("offset", f"{call.name} without its bias", "self", torch.zeros_like)


def _gathered(call: Call) -> Iterator[Mistake]:
    """Embeddings: the row after the one that was meant."""
    count = (call.sizes("weight") or ("?",))[0]
    if count.isdigit():
        rows = int(count)

        def next_row(index: Any) -> Any:
            return (index + 1) % rows

        yield call.on("input", "embedding of the next index", "indices", next_row)


def taken_out(node: Any) -> Iterator[Mistake]:
    """Yield another part of a tuple, where one has the same shape: q for k, say."""
    if node.target is not operator.getitem:
        return
    source, index = node.args
    parts = source.meta.get("val")
    if not isinstance(parts, list | tuple) or not isinstance(index, int):
        return
    mine = parts[index]
    for other, part in enumerate(parts):
        same = sizes_of(part) is not None and sizes_of(part) == sizes_of(mine)
        if other != index and same and part.dtype == mine.dtype:
            title = f"part {other} instead of {index}"
            yield Mistake("input", title, _part(other))


def _part(index: int) -> Callable[[dict[str, Any]], Any]:
    return lambda named: named["parts"][index]


def _select(call: Call) -> Iterator[Mistake]:
    sizes = call.sizes("self") or ()
    axis, index = call.arguments["dim"], call.arguments["index"]
    if not sizes or not isinstance(index, int) or not sizes[axis % len(sizes)].isdigit():
        return
    count = int(sizes[axis % len(sizes)])
    near = [(index % count + step) % count for step in (1, -1)]
    yield from call.others("index", (*near, 0, count - 1), "input", skip=(index % count,))


def _logical(call: Call) -> Iterator[Mistake]:
    target = call.node.target
    yield Mistake("input", f"not {call.name}", lambda named: ~call_named(target, named))


MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    **dict.fromkeys(_BIASES, _weighted),
    **{f"{name}{end}": make for name, make in (("sub", _sub), ("div", _div)) for end in ("", "_")},
    **{f"{name}{end}": make for name, make in (("add", _add), ("mul", _mul)) for end in ("", "_")},
    "pow": _pow,
    "where": _where,
    **dict.fromkeys(("matmul", "mm"), _swappable("self", "other")),
    "mm": _swappable("self", "mat2"),
    "bmm": _swappable("self", "mat2"),
    **dict.fromkeys(("remainder", "fmod", "floor_divide", "atan2"), _swappable("self", "other")),
    **dict.fromkeys(("gt", "lt", "ge", "le"), _logical),
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    "embedding": _gathered,
    "select": _select,
}
