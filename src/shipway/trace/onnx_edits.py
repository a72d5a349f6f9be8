"""Small edits of an ONNX graph's protobuf, for trying out what another graph would give."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from shipway.graph.segments import SegmentedGraph

__all__ = [
    "Edit",
    "Site",
    "attribute_of",
    "bypass",
    "insert_before",
    "replace_by",
    "reshaped_like",
    "set_attribute",
    "set_constant",
    "zero_input",
]

_PREFIX = "shipway\x1f"
_COUNT = itertools.count()


@dataclass(frozen=True, slots=True)
class Edit:
    """One mistake.

    Args:
        cause: The kind of fault; a key of `compare.causes.CAUSES`.
        title: What is different.
        apply: Changes a graph, and the node in it, so that the mistake is made.
    """

    cause: str
    title: str
    apply: Callable[[GraphProto, NodeProto], None]


@dataclass(frozen=True, slots=True)
class Site:
    """An operator, and where it stands.

    Args:
        node: The operator.
        graph: Its graph.
        constant: Reads the numbers of a constant by name; None where it is none.
    """

    node: NodeProto
    graph: SegmentedGraph
    constant: Callable[[str], NDArray[Any] | None]

    def rank(self) -> int | None:
        """Return the rank of what is read first; None if unknown."""
        kind = self.graph.types.get(self.node.input[0])
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        return len(kind.tensor_type.shape.dim)


def attribute_of(node: NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, texts as bytes; `default` where there is none."""
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Give an attribute another value."""
    from onnx import helper

    kept = [one for one in node.attribute if one.name != name]
    made = helper.make_attribute(name, value)
    del node.attribute[:]
    node.attribute.extend([*kept, made])


def set_constant(graph: GraphProto, node: NodeProto, *, position: int, value: NDArray[Any]) -> None:
    """Let a node read other numbers at one of its inputs; others keep reading the old ones."""
    node.input[position] = _New(graph).array(value)


def bypass(_: GraphProto, node: NodeProto) -> None:
    """Let a node hand on its first input as it is."""
    node.op_type, node.domain = "Identity", ""
    del node.input[1:]
    del node.attribute[:]


def insert_before(
    graph: GraphProto, node: NodeProto, op_type: str, *, position: int = 0, **attributes: Any
) -> None:
    """Let an input of a node pass through another operator first.

    Args:
        graph: The graph.
        node: The node.
        op_type: The operator, of one operand.
        position: Which input.
        attributes: Attributes of the operator.
    """
    new = _New(graph, before=node)
    node.input[position] = new(op_type, node.input[position], **attributes)


def zero_input(graph: GraphProto, node: NodeProto, *, position: int) -> None:
    """Let a node read zeros at one of its inputs, in the dtype and shape of what it reads now."""
    new = _New(graph, before=node)
    node.input[position] = new("Sub", node.input[position], node.input[position])


def replace_by(graph: GraphProto, node: NodeProto, make: Callable[[Any, NodeProto], None]) -> None:
    """Replace a node by others.

    Args:
        graph: The graph.
        node: The node, which is removed.
        make: Is given a function that adds a node and returns the name of what it computes; the
            last one is to compute the output of the old node.
    """
    old = type(node)()
    old.CopyFrom(node)
    new = _New(graph, before=node)
    make(new, old)
    graph.node.remove(_same(graph, old))


def reshaped_like(
    graph: GraphProto, node: NodeProto, make: Callable[[Any, NodeProto], str]
) -> None:
    """Replace what a node computes by something with as many elements, in the same shape."""
    output = node.output[0]
    new = _New(graph, before=node)
    other = make(new, node)
    node.output[0] = new.name()
    after = _New(graph, behind=node)
    after("Reshape", other, after("Shape", node.output[0]), output=output)


def _same(graph: GraphProto, node: NodeProto) -> NodeProto:
    found = [
        one
        for one in graph.node
        if list(one.output) == list(node.output) and one.op_type == node.op_type
    ]
    return found[-1]  # those put in its place stand before it


class _New:
    """Adds nodes and constants to a graph, before or behind one of its nodes."""

    def __init__(
        self, graph: GraphProto, *, before: NodeProto | None = None, behind: NodeProto | None = None
    ) -> None:
        self._graph = graph
        anchor = before if before is not None else behind
        self._index = len(graph.node)
        if anchor is not None:
            places = [list(one.output) == list(anchor.output) for one in graph.node]
            self._index = places.index(True) + (behind is not None)

    def name(self) -> str:
        return f"{_PREFIX}{next(_COUNT)}"

    def array(self, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = self.name()
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def constant(self, number: float) -> str:
        return self.array(np.array(number, np.float32))

    def __call__(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        made = helper.make_node(op_type, inputs, [output or self.name()], **attributes)
        self._graph.node.insert(self._index, made)
        self._index += 1
        return str(made.output[0])
