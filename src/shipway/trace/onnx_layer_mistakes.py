"""The usual mistakes with operators that have weights, and with those that sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from shipway.trace.onnx_edits import (
    Edit,
    Site,
    attribute_of,
    set_attribute,
    set_constant,
    zero_input,
)

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = [
    "added",
    "bias",
    "causal",
    "counting",
    "gates",
    "kernels",
    "resets",
    "sampling",
    "scaled",
    "weights",
]

_BIAS = 2
_SQUARE = 2


def _set(name: str, value: Any) -> Callable[[GraphProto, NodeProto], None]:
    return lambda _, node: set_attribute(node, name, value)


def bias(site: Site) -> Iterator[Edit]:
    """No bias."""
    node = site.node
    if len(node.input) > _BIAS and node.input[_BIAS]:
        yield Edit(
            "offset", f"bias of {node.op_type} left out", partial(zero_input, position=_BIAS)
        )


def added(site: Site) -> Iterator[Edit]:
    """A constant that is not added."""
    for position, name in enumerate(site.node.input):
        value = site.constant(name)
        if value is not None and value.dtype.kind == "f":
            title = f"{site.node.op_type} of a constant left out"
            yield Edit("offset", title, partial(zero_input, position=position))


def scaled(site: Site) -> Iterator[Edit]:
    """A constant that is not multiplied with."""
    for position, name in enumerate(site.node.input):
        value = site.constant(name)
        if value is None or value.dtype.kind != "f":
            continue
        cause = "gain" if value.size == 1 else "input"
        ones = np.ones_like(value)
        title = f"{site.node.op_type} by a constant left out"
        yield Edit(cause, title, partial(set_constant, position=position, value=ones))


def weights(site: Site) -> Iterator[Edit]:
    """Square weights transposed."""
    node = site.node
    for position, name in enumerate(node.input[:2]):
        value = site.constant(name)
        for first, second in ((-1, -2), (0, 1)) if value is not None else ():
            if value is None or value.ndim < _SQUARE:
                continue
            is_square = value.shape[first] == value.shape[second] > 1
            if is_square and (first < 0 or value.ndim > _SQUARE):
                turned = np.ascontiguousarray(np.swapaxes(value, first, second))
                title = f"weight of {node.op_type} transposed in axes {first} and {second}"
                yield Edit("input", title, partial(set_constant, position=position, value=turned))


def kernels(site: Site) -> Iterator[Edit]:
    """Kernels flipped, padding at the other side."""
    value = site.constant(site.node.input[1])
    if value is None or max(value.shape[2:], default=1) == 1:
        return
    axes = tuple(range(_SQUARE, value.ndim))
    flipped = np.ascontiguousarray(np.flip(value, axes))
    yield Edit("input", "kernel flipped", partial(set_constant, position=1, value=flipped))
    pads = list(attribute_of(site.node, "pads", None) or ())
    if any(pads):
        half = len(pads) // 2
        for axis in range(half):
            moved = list(pads)
            moved[axis] += 1
            moved[axis + half] -= 1
            if min(moved) >= 0:
                title = f"padded {moved} instead of {pads}"
                yield Edit("layout", title, _set("pads", moved))


def counting(site: Site) -> Iterator[Edit]:
    """Padding counted in the mean, or not."""
    now = attribute_of(site.node, "count_include_pad", 0)
    title = f"padding {'not ' if now else ''}counted in the mean"
    yield Edit("approximation", title, _set("count_include_pad", 1 - now))


def sampling(site: Site) -> Iterator[Edit]:
    """Other rules of sampling."""
    choices: dict[str, dict[str, tuple[Any, ...]]] = {
        "Resize": {
            "coordinate_transformation_mode": (
                "half_pixel",
                "align_corners",
                "asymmetric",
                "pytorch_half_pixel",
            ),
            "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
            "mode": ("nearest", "linear", "cubic"),
        },
        "GridSample": {"align_corners": (0, 1), "padding_mode": ("zeros", "border", "reflection")},
    }
    for name, values in choices[site.node.op_type].items():
        default: Any = values[0].encode() if isinstance(values[0], str) else values[0]
        now = attribute_of(site.node, name, default)
        now = now.decode() if isinstance(now, bytes) else now
        for value in values:
            if value != now:
                title = f"{name} {value} instead of {now}"
                yield Edit("approximation", title, _set(name, value))


def resets(site: Site) -> Iterator[Edit]:
    """The other form of a GRU."""
    now = attribute_of(site.node, "linear_before_reset", 0)
    title = f"linear_before_reset {1 - now} instead of {now}"
    yield Edit("approximation", title, _set("linear_before_reset", 1 - now))


def gates(site: Site) -> Iterator[Edit]:
    """PyTorch has the gates as input, forget, cell, output; ONNX as input, output, forget, cell."""
    node = site.node
    arrays = {position: site.constant(node.input[position]) for position in (1, 2)}
    if len(node.input) > 3 and node.input[3]:
        arrays[3] = site.constant(node.input[3])
    if any(array is None for array in arrays.values()):
        return

    def apply(edited: GraphProto, one: NodeProto) -> None:
        for position, array in arrays.items():
            if array is not None:
                parts = np.split(array, 8 if position == 3 else 4, axis=1)
                order = [0, 3, 1, 2] if position != 3 else [0, 3, 1, 2, 4, 7, 5, 6]
                turned = np.concatenate([parts[index] for index in order], axis=1)
                set_constant(edited, one, position=position, value=turned)

    yield Edit("input", "gates of LSTM in another order", apply)


def causal(site: Site) -> Iterator[Edit]:
    """A causal mask, or none."""
    now = attribute_of(site.node, "is_causal", 0)
    title = f"attention {'not ' if now else ''}causal"
    yield Edit("input", title, _set("is_causal", 1 - now))
