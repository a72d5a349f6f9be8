"""Chooses for stretches of operators that work in any order of axes the one with fewest transposes.

Exporters transpose around each operator that wants its channels last. What stands between, sums
and activations, can run in either order. Which of them should is a minimum cut: a Transpose is paid
for wherever a value is made in one order and read in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.applying import Applier
from shipway.graph.minimum_cut import FIRST, SECOND, LabelCosts
from shipway.graph.passes.merge_transposes import order_of
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["MOVE_TRANSPOSES", "move_transposes"]

MOVE_TRANSPOSES = Rule(
    "move_transposes",
    "exact",
    "Runs element-wise operators, Concat, Split and Softmax in the order of axes in which fewer "
    "transposes are left around them.",
    (),
    lambda _node, _view: None,
)

_ELEMENTWISE = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp"),
        *("Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu"),
        *("Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or"),
        *("Pow", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin"),
        *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor"),
    }
)
_ALONG_AN_AXIS = frozenset({"Concat", "LogSoftmax", "Softmax", "Split"})
_DEFAULT_AXIS = {"LogSoftmax": -1, "Softmax": -1, "Split": 0}
_FIRST_SOFTMAX_OF_ONE_AXIS = 13
_FIRST_NUMPY_BROADCASTS = 7


def move_transposes(graph: ir.Graph, view: View, applier: Applier) -> bool:
    """Move transposes where fewer are left by it; say whether any was moved."""
    free = _FreeNodes(view)
    orders = dict.fromkeys(
        order for node in graph if (order := _order_beside(node, free, view)) is not None
    )
    return any(_choose(graph, order, free, view, applier) for order in orders)


def _order_beside(node: ir.Node, free: _FreeNodes, view: View) -> tuple[int, ...] | None:
    """Return in which order of axes a free node beside a Transpose would need it no more."""
    if node.op_type != "Transpose" or not is_standard(node):
        return None
    order = order_of(node, view)
    if order is None or order == sorted(order):
        return None
    if free.takes(node.inputs[0].producer() if node.inputs[0] is not None else None, len(order)):
        return tuple(order)
    if any(free.takes(use.node, len(order)) for use in node.outputs[0].uses()):
        return _inverse(order)
    return None


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


class _FreeNodes:
    """Tells which nodes work in any order of their axes."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._ranks: dict[ir.Node, int | None] = {}

    def takes(self, node: ir.Node | None, rank: int) -> bool:
        """Whether a node is one of them, with as many axes."""
        if node is None:
            return False
        if node not in self._ranks:
            self._ranks[node] = self._rank(node)
        return self._ranks[node] == rank

    def _rank(self, node: ir.Node) -> int | None:
        if not is_standard(node) or self._view.opset < _FIRST_NUMPY_BROADCASTS:
            return None
        shape = self._view.shape(node.outputs[0])
        if shape is None or any(one.is_ref() for one in node.attributes.values()):
            return None
        rank = len(shape)
        if node.op_type in _ELEMENTWISE:
            fits = all(self._is_operand(value, rank) for value in node.inputs)
        elif node.op_type in _ALONG_AN_AXIS:
            fits = self._has_one_axis(node, rank)
        else:
            fits = False
        return rank if fits else None

    def _is_operand(self, value: ir.Value | None, rank: int) -> bool:
        """Whether an operand has all axes, or is a constant that can be given them."""
        if value is None:
            return True
        shape = self._view.shape(value)
        if shape is None:
            return False
        if self._view.is_constant(value):
            return value.const_value is not None and (
                value.const_value.size == 1 or self._view.is_private(value)
            )
        return len(shape) == rank

    def _has_one_axis(self, node: ir.Node, rank: int) -> bool:
        if "Softmax" in node.op_type and self._view.opset < _FIRST_SOFTMAX_OF_ONE_AXIS:
            return False
        data = node.inputs[:1] if node.op_type == "Split" else node.inputs
        shapes = [self._view.shape(value) for value in data]
        return all(shape is not None and len(shape) == rank for shape in shapes) and not any(
            self._view.is_constant(value) for value in data
        )


@dataclass(slots=True)
class _Tensor:
    """A value in either order of axes: who makes it, and who reads it.

    Args:
        maker: The free node, FIRST where it is made as it stands, SECOND where a Transpose makes it
            of one in the other order.
        readers: Free nodes, FIRST for others, SECOND for a Transpose into the other order.
    """

    maker: ir.Node | str
    readers: set[ir.Node | str] = field(default_factory=set)

    @property
    def transposes(self) -> int:
        """How many transposes there are for it now."""
        if self.maker == SECOND:
            return int(self.readers != {SECOND})
        return int(SECOND in self.readers)


def _choose(
    graph: ir.Graph, order: tuple[int, ...], free: _FreeNodes, view: View, applier: Applier
) -> bool:
    """Find which free nodes should work in another order of axes, and rewrite them."""
    tensors = _tensors(graph, order, free, view)
    now = sum(tensor.transposes for tensor in tensors)
    costs = LabelCosts()
    for index, tensor in enumerate(tensors):
        _charge(costs, index, tensor)
    least, moved = costs.solve()
    if least >= now:
        return False
    steps = [
        (node, _reordered(node, order, view))
        for node in graph
        if node in moved and free.takes(node, len(order))
    ]
    return applier.apply_all(MOVE_TRANSPOSES, steps)


def _charge(costs: LabelCosts, index: int, tensor: _Tensor) -> None:
    """Charge one Transpose where a reader wants what the maker does not make."""
    wanted, given = ("wanted", index), ("given", index)
    for reader in tensor.readers:
        if reader != FIRST:
            costs.charge(wanted, reader)
        if reader != SECOND:
            costs.charge(reader, given)
    if tensor.maker != SECOND:
        costs.charge(tensor.maker, wanted, 1)
    if tensor.maker != FIRST:
        costs.charge(given, tensor.maker, 1)


def _tensors(
    graph: ir.Graph, order: tuple[int, ...], free: _FreeNodes, view: View
) -> list[_Tensor]:
    """Return what free nodes of a rank make and read."""
    rank, found = len(order), {}
    for node in graph:
        if not free.takes(node, rank):
            continue
        data = node.inputs[:1] if node.op_type == "Split" else node.inputs
        for value in (*data, *node.outputs):
            if value is not None and value not in found and not view.is_constant(value):
                found[value] = _tensor(value, order, free, view)
    return list(found.values())


def _tensor(value: ir.Value, order: tuple[int, ...], free: _FreeNodes, view: View) -> _Tensor:
    producer = value.producer()
    tensor = _Tensor(FIRST)
    if producer is not None and free.takes(producer, len(order)):
        tensor.maker = producer
    elif producer is not None and _is_transpose(producer, _inverse(order), view):
        above = producer.inputs[0].producer() if producer.inputs[0] is not None else None
        # There and back may be the same order: a Transpose between two free nodes is the first one's.
        if order != _inverse(order) or not free.takes(above, len(order)):
            tensor.maker = SECOND
    for use in value.uses():
        beside = use.node.graph is value.graph
        if beside and free.takes(use.node, len(order)):
            tensor.readers.add(use.node)
        elif beside and _is_transpose(use.node, order, view):
            tensor.readers.add(SECOND)
        else:
            tensor.readers.add(FIRST)
    if value.is_graph_output():
        tensor.readers.add(FIRST)
    return tensor


def _is_transpose(node: ir.Node, order: tuple[int, ...], view: View) -> bool:
    if node.op_type != "Transpose" or not is_standard(node):
        return False
    return order_of(node, view) == list(order)


def _reordered(node: ir.Node, order: tuple[int, ...], view: View) -> Rewrite:
    """Return the node in another order of axes, with transposes around it that others will merge."""
    attributes = {name: one.value for name, one in node.attributes.items()}
    if node.op_type in _ALONG_AN_AXIS:
        given = node.attributes.get_int("axis", _DEFAULT_AXIS.get(node.op_type, 0)) or 0
        attributes["axis"] = order.index(given % len(order))
    nodes: list[ir.Node] = []
    inputs: list[ir.Value | None] = []
    for index, value in enumerate(node.inputs):
        if value is None or (node.op_type == "Split" and index > 0):
            inputs.append(value)
        elif view.is_constant(value):
            inputs.append(_reordered_constant(value, order, view))
        else:
            nodes.append(view.node("Transpose", [value], {"perm": list(order)}))
            inputs.append(nodes[-1].outputs[0])
    inner = view.node(node.op_type, inputs, attributes, outputs=len(node.outputs))
    back = [
        view.node("Transpose", [value], {"perm": list(_inverse(order))}) for value in inner.outputs
    ]
    return Rewrite(tuple(one.outputs[0] for one in back), (*nodes, inner, *back))


def _reordered_constant(value: ir.Value, order: tuple[int, ...], view: View) -> ir.Value:
    """Return an operand with its axes in another order; one number has none."""
    tensor = value.const_value
    if tensor is None or tensor.size == 1:
        return value
    sizes = tuple(tensor.shape.numpy())
    whole = (1,) * (len(order) - len(sizes)) + sizes
    source = tensor

    def compute() -> NDArray[Any]:
        return np.transpose(source.numpy().reshape(whole), order)

    return view.lazy_constant(compute, tensor.dtype, [whole[axis] for axis in order])
