"""The usual mistakes with operators that compute element by element, or move elements."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from shipway.trace.onnx_edits import (
    Edit,
    Site,
    attribute_of,
    bypass,
    insert_before,
    replace_by,
    reshaped_like,
    set_attribute,
    set_constant,
)

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = [
    "activations",
    "added_epsilons",
    "axes",
    "bounds",
    "branches",
    "clipped",
    "epsilons",
    "erf",
    "gelu",
    "orders",
    "perms",
    "reading_orders",
    "reduced_axes",
    "slopes",
]

_EPSILONS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1)
_LARGEST_EPSILON = 1e-2
_MOST_RANK = 4


def _set(name: str, value: Any) -> Callable[[GraphProto, NodeProto], None]:
    return lambda _, node: set_attribute(node, name, value)


def epsilons(site: Site) -> Iterator[Edit]:
    """Another epsilon."""
    declared = attribute_of(site.node, "epsilon", 1e-5)
    for epsilon in dict.fromkeys((*_EPSILONS, declared * 10, declared / 10)):
        if not np.isclose(epsilon, declared, rtol=1e-3, atol=0):
            title = f"epsilon {epsilon:.3g} instead of {declared:.3g}"
            yield Edit("approximation", title, _set("epsilon", float(epsilon)))


def added_epsilons(site: Site) -> Iterator[Edit]:
    """A small constant under a root: the epsilon of a normalization that is written out."""
    node = site.node
    readers = [one for one in site.graph.nodes if node.output[0] in one.input]
    if not any(one.op_type in {"Sqrt", "Pow", "Rsqrt"} for one in readers):
        return
    for position, name in enumerate(node.input):
        value = site.constant(name)
        if value is None or value.size != 1 or not 0 < float(value.reshape(())) <= _LARGEST_EPSILON:
            continue
        declared = float(value.reshape(()))
        for epsilon in dict.fromkeys((*_EPSILONS, declared * 10, declared / 10)):
            if not np.isclose(epsilon, declared, rtol=1e-3, atol=0):
                title = f"epsilon {epsilon:.3g} instead of {declared:.3g}"
                array = np.full_like(value, epsilon)
                yield Edit(
                    "approximation", title, partial(set_constant, position=position, value=array)
                )


def gelu(site: Site) -> Iterator[Edit]:
    """Another form of GELU."""
    is_tanh = attribute_of(site.node, "approximate", b"none") == b"tanh"
    other, this = ("none", "tanh") if is_tanh else ("tanh", "erf")
    title = f"GELU by {'erf' if is_tanh else 'tanh'} instead of {this}"
    yield Edit("approximation", title, _set("approximate", other))
    yield Edit(
        "approximation", "GELU by x * sigmoid(1.702 x)", partial(replace_by, make=_quick_gelu)
    )


def _quick_gelu(new: Any, node: NodeProto) -> None:
    x = node.input[0]
    scaled = new("Mul", x, new.constant(1.702))
    new("Mul", x, new("Sigmoid", scaled), output=node.output[0])


def erf(_: Site) -> Iterator[Edit]:
    """GELU by tanh, where it is written out with erf."""
    yield Edit(
        "approximation", "GELU by tanh instead of erf", partial(replace_by, make=_tanh_of_erf)
    )


def _tanh_of_erf(new: Any, node: NodeProto) -> None:
    """Write erf(u) as the tanh form of GELU has it, where u is x over the root of 2."""
    x = new("Mul", node.input[0], new.constant(np.sqrt(2)))
    cube = new("Mul", new("Mul", x, x), x)
    inner = new("Add", x, new("Mul", cube, new.constant(0.044715)))
    new("Tanh", new("Mul", inner, new.constant(np.sqrt(2 / np.pi))), output=node.output[0])


def axes(site: Site) -> Iterator[Edit]:
    """Another axis."""
    node = site.node
    default = -1 if node.op_type in {"Softmax", "LogSoftmax", "Hardmax"} else 0
    axis, rank = attribute_of(node, "axis", default), site.rank()
    now = axis + rank if rank is not None and axis < 0 else axis
    candidates = range(rank) if rank is not None else range(-1, -_MOST_RANK - 1, -1)
    for other in candidates:
        if other != now:
            title = f"{node.op_type} along axis {other} instead of {axis}"
            yield Edit("layout", title, _set("axis", other))


def reduced_axes(site: Site) -> Iterator[Edit]:
    """Another axis to reduce."""
    node = site.node
    rank = site.rank()
    given = (
        site.constant(node.input[1]) if len(node.input) > 1 else attribute_of(node, "axes", None)
    )
    if rank is None or given is None or len(given) != 1:
        return
    for other in range(rank):
        if other == int(given[0]) % rank:
            continue
        title = f"{node.op_type} along axis {other} instead of {int(given[0])}"
        if len(node.input) > 1:
            axes = np.array([other], np.int64)
            yield Edit("layout", title, partial(set_constant, position=1, value=axes))
        else:
            yield Edit("layout", title, _set("axes", [other]))


def orders(site: Site) -> Iterator[Edit]:
    """Operands swapped."""
    count = len(site.node.input)
    for first, second in itertools.combinations(range(min(count, _MOST_RANK)), 2):
        title = f"operands {first} and {second} of {site.node.op_type} swapped"
        yield Edit("input", title, partial(_swap, first=first, second=second))


def _swap(_: GraphProto, node: NodeProto, first: int, second: int) -> None:
    node.input[first], node.input[second] = node.input[second], node.input[first]


def branches(_: Site) -> Iterator[Edit]:
    """Branches swapped."""
    yield Edit("input", "branches of Where swapped", partial(_swap, first=1, second=2))


def perms(site: Site) -> Iterator[Edit]:
    """Another transposition, or none."""
    perm = attribute_of(site.node, "perm", None)
    rank = len(perm) if perm is not None else site.rank()
    if rank is None or rank > _MOST_RANK:
        return
    now = tuple(perm) if perm is not None else tuple(reversed(range(rank)))
    for other in itertools.permutations(range(rank)):
        if other != now:
            title = f"transposed by {list(other)} instead of {list(now)}"
            make = partial(_other_perm, perm=other)
            yield Edit("layout", title, partial(reshaped_like, make=make))


def _other_perm(new: Any, node: NodeProto, perm: Sequence[int]) -> str:
    return str(new("Transpose", node.input[0], perm=list(perm)))


def reading_orders(site: Site) -> Iterator[Edit]:
    """The elements read in another order."""
    rank = site.rank()
    for axis in range((rank or 1) - 1):
        perm = list(range(rank or 1))
        perm[axis], perm[axis + 1] = perm[axis + 1], perm[axis]
        title = f"reshaped with axes {axis} and {axis + 1} in the other order"
        yield Edit("layout", title, partial(insert_before, op_type="Transpose", perm=perm))


def activations(site: Site) -> Iterator[Edit]:
    """No activation, or another."""
    node = site.node
    yield Edit("activation", f"{node.op_type} left out", bypass)
    others: dict[str, dict[str, Any]] = {
        "Relu": {},
        "LeakyRelu": {"alpha": 0.01},
        "Elu": {},
        "HardSwish": {},
        "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5},
        "Sigmoid": {},
        "Tanh": {},
    }
    for op, attributes in others.items():
        if op != node.op_type and _is_alike(op, node.op_type):
            make = partial(_other_op, op=op, attributes=attributes)
            title = f"{op} instead of {node.op_type}"
            yield Edit("activation", title, partial(replace_by, make=make))


def _is_alike(one: str, other: str) -> bool:
    bounded = {"HardSigmoid", "Sigmoid", "Tanh"}
    return (one in bounded) == (other in bounded)


def _other_op(new: Any, node: NodeProto, op: str, attributes: dict[str, Any]) -> None:
    new(op, node.input[0], output=node.output[0], **attributes)


def slopes(site: Site) -> Iterator[Edit]:
    """Another slope."""
    alpha = attribute_of(site.node, "alpha", 0.01)
    for other in (0.0, 0.01, 0.1, 0.2):
        if not np.isclose(other, alpha):
            title = f"slope {other:g} instead of {alpha:g}"
            yield Edit("activation", title, _set("alpha", other))


def clipped(site: Site) -> Iterator[Edit]:
    """An upper bound where there is none."""
    for most in (1.0, 6.0):
        make = partial(_cut_off, most=most)
        title = f"{site.node.op_type} cut off at {most:g}"
        yield Edit("saturation", title, partial(replace_by, make=make))


def _cut_off(new: Any, node: NodeProto, most: float) -> None:
    above = new("Relu", node.input[0])
    new("Min", above, new.constant(most), output=node.output[0])


def bounds(_: Site) -> Iterator[Edit]:
    """No bounds."""
    yield Edit("saturation", "Clip left out", bypass)
    yield Edit(
        "saturation",
        "Relu instead of Clip: no upper bound",
        partial(replace_by, make=partial(_other_op, op="Relu", attributes={})),
    )
