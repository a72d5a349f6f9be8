"""Axes: another one, in another order, or what lies along them in another order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake, call_named, show

__all__ = ["MISTAKES"]

_MOST_AXES = 5
"""Up to this rank every permutation is tried; beyond it, swaps of two axes."""


def _along(call: Call) -> Iterator[Mistake]:
    """Operators that keep the shape: softmax, cumsum."""
    sizes = call.sizes("self") or ()
    now = call.arguments["dim"] % max(len(sizes), 1)
    for axis in range(len(sizes)):
        if axis != now and sizes[axis] != "1":
            title = f"{call.name} along axis {axis} instead of {now}"
            yield call.changed("layout", title, dim=axis)


def _reduction(call: Call) -> Iterator[Mistake]:
    """Operators that drop axes; only axes of the same size give a tensor of the same shape."""
    sizes = call.sizes("self") or ()
    dims = call.arguments.get("dim")
    axes = [dims] if isinstance(dims, int) else list(dims or ())
    if not axes or not sizes:
        return
    now = sorted(axis % len(sizes) for axis in axes)
    keep = bool(call.arguments.get("keepdim"))
    shape = _reduced(sizes, now, keep=keep)
    for other in itertools.combinations(range(len(sizes)), len(now)):
        if list(other) != now and _reduced(sizes, other, keep=keep) == shape:
            title = f"{call.name} over axes {show(other)} instead of {show(now)}"
            value: Any = other[0] if isinstance(dims, int) else list(other)
            yield call.changed("layout", title, dim=value)


def _reduced(sizes: Sequence[str], axes: Sequence[int], *, keep: bool) -> list[str]:
    if keep:
        return ["1" if at in axes else size for at, size in enumerate(sizes)]
    return [size for at, size in enumerate(sizes) if at not in axes]


def _mean(call: Call) -> Iterator[Mistake]:
    yield from _reduction(call)
    if "dim" in call.arguments:
        import torch

        def total(named: dict[str, Any]) -> Any:
            return torch.sum(named["self"], named["dim"], keepdim=named["keepdim"])

        yield Mistake("gain", "sum instead of mean", total)


def _permute(call: Call) -> Iterator[Mistake]:
    sizes = call.sizes("self") or ()
    rank = len(sizes)
    now = tuple(axis % rank for axis in call.arguments["dims"])
    yield from _orders(call, sizes, now, lambda order: {"dims": list(order)})


def _orders(
    call: Call,
    sizes: Sequence[str],
    now: tuple[int, ...],
    arguments: Callable[[tuple[int, ...]], dict[str, Any]],
) -> Iterator[Mistake]:
    shape = [sizes[axis] for axis in now]
    for order in _permutations(len(now)):
        if order != now and [sizes[axis] for axis in order] == shape:
            title = f"{call.name} to {show(order)} instead of {show(now)}"
            yield call.changed("layout", title, **arguments(order))


def _permutations(rank: int) -> Iterator[tuple[int, ...]]:
    plain = tuple(range(rank))
    if rank <= _MOST_AXES:
        yield from itertools.permutations(plain)
        return
    for left, right in itertools.combinations(plain, 2):
        order = list(plain)
        order[left], order[right] = right, left
        yield tuple(order)


def _transpose(call: Call) -> Iterator[Mistake]:
    """Another order of the axes, or the numbers read in the order they already lie in."""
    sizes = call.sizes("self") or ()
    rank = len(sizes)
    if call.name in {"t", "numpy_T"}:
        axes: tuple[int, int] = (0, 1)
    else:
        axes = (call.arguments["dim0"] % max(rank, 1), call.arguments["dim1"] % max(rank, 1))
    if rank < 2:
        return
    order = list(range(rank))
    order[axes[0]], order[axes[1]] = order[axes[1]], order[axes[0]]
    now = tuple(order)
    shape = [sizes[axis] for axis in now]
    for other in _permutations(rank):
        if other != now and [sizes[axis] for axis in other] == shape:
            title = f"axes in the order {show(other)} instead of {show(now)}"
            yield call.replaced("layout", title, _permuted(other))

    def unmoved(x: Any) -> Any:
        return x.reshape([x.shape[axis] for axis in now])

    yield call.replaced("layout", "reshaped where it should be transposed", unmoved)


def _permuted(order: Sequence[int]) -> Callable[[Any], Any]:
    return lambda tensor: tensor.permute(*order)


def _permute_or_reshape(call: Call) -> Iterator[Mistake]:
    yield from _permute(call)
    rank = len(call.sizes("self") or ())
    now = tuple(axis % rank for axis in call.arguments["dims"])

    def unmoved(x: Any) -> Any:
        return x.reshape([x.shape[axis] for axis in now])

    yield call.replaced("layout", "reshaped where it should be transposed", unmoved)


def _reshape(call: Call) -> Iterator[Mistake]:
    """The same numbers read along other axes: two of the source's swapped first."""
    sizes = call.sizes("self") or ()
    long = [at for at, size in enumerate(sizes) if size != "1"]
    for left, right in itertools.combinations(long, 2):
        title = f"{call.name} after axes {left} and {right} were swapped"

        def apply(named: dict[str, Any], left: int = left, right: int = right) -> Any:
            moved = named["self"].transpose(left, right)
            if sizes[left] == sizes[right]:
                return call_named(call.node.target, {**named, "self": moved.contiguous()})
            right_shape = call_named(call.node.target, named).shape
            return moved.reshape(right_shape)

        yield Mistake("layout", title, apply)


def _joined(call: Call) -> Iterator[Mistake]:
    """Concatenation in another order: reversed, or two neighbours swapped."""
    items = call.arguments["tensors"]
    count = len(items)
    if count < 2:
        return
    orders = [tuple(reversed(range(count)))]
    for at in range(count - 1):
        swapped = list(range(count))
        swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
        orders.append(tuple(swapped))
    for order in dict.fromkeys(orders):
        title = f"{call.name} in the order {show(order)}"
        yield call.on("layout", title, "tensors", _reordered(order))


def _reordered(order: Sequence[int]) -> Callable[[Any], Any]:
    return lambda items: [items[at] for at in order]


def _flip(call: Call) -> Iterator[Mistake]:
    yield call.replaced("layout", f"{call.name} left out", lambda x: x)


def _roll(call: Call) -> Iterator[Mistake]:
    yield call.replaced("layout", "roll left out", lambda x: x)
    shifts = call.arguments["shifts"]
    items = shifts if isinstance(shifts, list | tuple) else [shifts]
    if all(isinstance(one, int) for one in items):
        yield call.changed("layout", "roll the other way", shifts=[-one for one in items])


def _pixel_shuffle(call: Call) -> Iterator[Mistake]:
    """Depth to space with the blocks outermost (ONNX's DCR) instead of innermost (CRD)."""
    factor = call.arguments["upscale_factor"]

    def blocks_first(x: Any) -> Any:
        *lead, channels, height, width = x.shape
        depth = channels // factor**2
        parts = x.reshape(-1, factor, factor, depth, height, width).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(*lead, depth, height * factor, width * factor)

    yield call.replaced("layout", "pixel shuffle in DCR order instead of CRD", blocks_first)


MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _along),
    **dict.fromkeys(("cumsum", "cumprod"), _along),
    **dict.fromkeys(("sum", "amax", "amin", "prod", "var", "std", "logsumexp"), _reduction),
    **dict.fromkeys(("argmax", "argmin", "linalg_vector_norm", "norm", "any", "all"), _reduction),
    "mean": _mean,
    "permute": _permute_or_reshape,
    **dict.fromkeys(("transpose", "t", "numpy_T"), _transpose),
    **dict.fromkeys(("reshape", "view", "_unsafe_view", "flatten", "unflatten"), _reshape),
    **dict.fromkeys(("cat", "concat", "stack"), _joined),
    "flip": _flip,
    "roll": _roll,
    "pixel_shuffle": _pixel_shuffle,
}
