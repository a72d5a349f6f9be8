"""Folds constant parts of a graph, as far as the file does not grow by it.

A region is a maximal set of connected nodes that depend on constants only. It is folded as a whole
if what it leaves behind takes no more bytes than the initializers and nodes it frees: a chain of
slices and transposes of a weight is folded, a mask of a million numbers made of three is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.applying import Applier
from shipway.graph.attributes import has_references
from shipway.graph.evaluation import EVALUATORS, Constants, evaluate
from shipway.graph.evaluation_sums import ROUNDING
from shipway.graph.facts.fact import Fact
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["Folder"]

_NODE_BYTES = 60  # what a node takes in a file at the very least, its names included
_TINY_BYTES = 32
_LAZY_BYTES = 1 << 20
_MOVES = frozenset(
    [
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Concat",
        "Slice",
        "Split",
        "Identity",
    ]
)

FOLD_EXACT = Rule(
    "fold_constants",
    "exact",
    "Computes what depends on constants only, where the file does not grow by it.",
    (),
    lambda _node, _view: None,
)
FOLD_ROUNDED = Rule(
    "fold_rounded_constants",
    "reassociating",
    "The same where an operator rounds: numpy and an engine may differ in the last bit.",
    (),
    lambda _node, _view: None,
)


@dataclass(frozen=True, slots=True)
class _Expression:
    """A constant that is computed when it is asked for."""

    node: tuple[str, dict[str, Any], int, int]  # operator, attributes, opset, number of outputs
    inputs: tuple[_Expression | ir.TensorProtocol | None, ...]
    index: int
    rounds: bool

    def only_moves(self) -> bool:
        """Whether it computes nothing, so that it cannot fail when it is asked for at last."""
        inner = [one for one in self.inputs if isinstance(one, _Expression)]
        return self.node[0] in _MOVES and all(one.only_moves() for one in inner)

    def compute(self) -> NDArray[Any] | None:
        """Return the numbers; None where one of the nodes cannot be computed."""
        arrays: list[NDArray[Any] | None] = []
        for one in self.inputs:
            array = one.compute() if isinstance(one, _Expression) else _numbers(one)
            if array is None and one is not None:
                return None
            arrays.append(array)
        op_type, attributes, opset, outputs = self.node
        found = evaluate(Constants(op_type, attributes, arrays, opset, outputs))
        return None if found is None else found[self.index]


def _numbers(tensor: ir.TensorProtocol | None) -> NDArray[Any] | None:
    return None if tensor is None else tensor.numpy()


class Folder:
    """Collects constant nodes during a pass and folds their regions at its end.

    Args:
        view: The graph.
        applier: Who carries it out.
        skip: Names of rules not to use.
    """

    def __init__(self, view: View, applier: Applier, skip: frozenset[str]) -> None:
        """Begin without a region."""
        self._skip = skip
        self._view = view
        self._applier = applier
        self.spent_bytes = 0
        self._sizes: dict[ir.Value, int] = {}

    def note(self, node: ir.Node, facts: Sequence[Fact]) -> None:
        """Note a node if it depends on constants only."""
        if node.op_type not in EVALUATORS or not is_standard(node):
            return
        given = [value for value in node.inputs if value is not None]
        if not all(self._is_constant(value) for value in given):
            return
        if has_references(node) or (self._view.constants_are_nodes and len(node.outputs) > 1):
            return  # several constants for one node would be more nodes
        sizes = [_size_bytes(fact) for fact in facts]
        if None in sizes or any(value.is_graph_output() for value in node.outputs):
            return
        for value, size in zip(node.outputs, sizes, strict=True):
            self._sizes[value] = size or 0

    def _is_constant(self, value: ir.Value) -> bool:
        return value in self._sizes or self._view.is_constant(value)

    def fold(self, budget_bytes: int) -> None:
        """Fold every region that pays, until they have used up the bytes the file may grow by."""
        for region in self._regions():
            ends = [
                value
                for value in self._sizes
                if value in region and self._is_read_outside(value, region)
            ]
            growth = sum(self._sizes[value] for value in ends) - self._freed_bytes(region)
            if self.spent_bytes + growth > budget_bytes:
                continue
            if self._fold_region(ends):
                self.spent_bytes += growth
        self._sizes.clear()

    def _regions(self) -> list[set[ir.Value]]:
        """Group values that share a node or a large initializer; in the order of the graph."""
        parent: dict[ir.Value, ir.Value] = {}

        def find(value: ir.Value) -> ir.Value:
            while parent.get(value, value) is not value:
                value = parent[value]
            return value

        for value in self._sizes:
            node = value.producer()
            for one in () if node is None else node.inputs:
                if one is not None and (one in self._sizes or self._bytes_of(one) > _TINY_BYTES):
                    parent[find(one)] = find(value)
        groups: dict[ir.Value, set[ir.Value]] = {}
        for value in self._sizes:
            groups.setdefault(find(value), set()).add(value)
        return list(groups.values())

    def _is_read_outside(self, value: ir.Value, region: set[ir.Value]) -> bool:
        return any(not any(output in region for output in use.node.outputs) for use in value.uses())

    def _freed_bytes(self, region: set[ir.Value]) -> int:
        nodes = {value.producer() for value in region}
        inputs = {value for node in nodes if node for value in node.inputs if value is not None}
        return _NODE_BYTES * len(nodes) + sum(
            self._bytes_of(value)
            for value in inputs - region
            if all(use.node in nodes for use in value.uses())
        )

    def _bytes_of(self, value: ir.Value) -> int:
        tensor = self._view.knowledge.tensor(value)
        return 0 if tensor is None else tensor.nbytes

    def _fold_region(self, ends: Iterable[ir.Value]) -> bool:
        made = [(value, expression) for value in ends if (expression := self._express(value))]
        if any(_rule_of(expression).name in self._skip for _, expression in made):
            return False
        found: list[tuple[ir.Value, _Expression, NDArray[Any] | None]] = []
        for value, expression in made:
            is_large = self._sizes[value] > _LAZY_BYTES and expression.only_moves()
            is_large = is_large and not self._view.constants_are_nodes
            array = None if is_large else expression.compute()
            if array is None and not is_large:
                return False
            if array is not None and not self._matches(value, array):
                return False
            found.append((value, expression, array))
        done = [self._replace(*one) for one in found]
        return any(done)

    def _matches(self, value: ir.Value, array: NDArray[Any]) -> bool:
        """Whether what was computed is what was inferred: one of both would be wrong otherwise."""
        fact = self._view.fact(value)
        return fact.shape == array.shape and (
            fact.dtype is not None and fact.dtype.numpy() == array.dtype
        )

    def _replace(
        self, value: ir.Value, expression: _Expression, array: NDArray[Any] | None
    ) -> bool:
        node, fact = value.producer(), self._view.fact(value)
        if node is None or fact.dtype is None or fact.shape is None:
            return False
        if self._applier.is_done:
            return False
        if array is None:
            sizes = [dim for dim in fact.shape if isinstance(dim, int)]
            constant = self._view.lazy_constant(expression.compute, fact.dtype, sizes)
        else:
            constant = self._view.constant(array, fact.dtype)
        rule = _rule_of(expression)
        if len(node.outputs) == 1:
            return self._applier.apply(rule, node, Rewrite((constant,)))
        return self._applier.redirect(rule, value, constant)

    def _express(self, value: ir.Value) -> _Expression | None:
        node = value.producer()
        if node is None:
            return None
        inputs: list[_Expression | ir.TensorProtocol | None] = []
        for one in node.inputs:
            if one is None:
                inputs.append(None)
            elif one in self._sizes:
                inputs.append(self._express(one))
            else:
                inputs.append(self._view.knowledge.tensor(one))
        rounds = any(one.rounds for one in inputs if isinstance(one, _Expression))
        is_float = self._view.fact(value).dtype in _FLOATS
        attributes = {name: one.value for name, one in node.attributes.items()}
        head = (node.op_type, attributes, self._view.opset, len(node.outputs))
        rounds = rounds or (node.op_type in ROUNDING and is_float)
        return _Expression(head, tuple(inputs), value.index() or 0, rounds)


_FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
)


def _rule_of(expression: _Expression) -> Rule:
    return FOLD_ROUNDED if expression.rounds else FOLD_EXACT


def _size_bytes(fact: Fact) -> int | None:
    if fact.dtype is None or fact.shape is None or fact.dtype is ir.DataType.STRING:
        return None
    sizes = [dim for dim in fact.shape if isinstance(dim, int)]
    if len(sizes) < len(fact.shape) or min(sizes, default=0) < 0:
        return None
    return math.ceil(math.prod(sizes) * fact.dtype.itemsize)
