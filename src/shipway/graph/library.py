"""The functions and custom operators of a model: whom a node calls, and what a call may be trusted with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.aside import domain_of, is_onnx_operator
from shipway.graph.facts.fact import Fact
from shipway.graph.locating import subgraphs_of
from shipway.graph.standard import STANDARD_DOMAINS, is_standard

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["RANDOM", "Library", "function_name"]

RANDOM = frozenset(
    [
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "Dropout",
    ]
)
"""Operators that give other numbers each time; Dropout in training."""

_Identifier = tuple[str, str, str]
_ONNX_ML = "ai.onnx.ml"
_FOREIGN = ("com.microsoft", "ai.onnx.")
"""Beginnings of domains in which nobody defines operators with Shipway: nothing is imported for them."""


def function_name(function: ir.Function) -> str:
    """Return how a function is called in messages: "domain::name", and its overload."""
    overload = f":{function.overload}" if function.overload else ""
    return f"{function.domain}::{function.name}{overload}"


class Library:
    """What the nodes of a model call beside ONNX's own operators.

    Args:
        model: The model.
        pure: Operators that are declared to be pure, "domain::type".

    Raises:
        ModelError: Functions call each other in a circle.
        UsageError: One of `pure` is no "domain::type", or is an operator of ONNX.
    """

    def __init__(self, model: ir.Model, pure: Collection[str] = ()) -> None:
        """Find the functions, and the order in which they call each other."""
        self.model = model
        self.declared = frozenset(map(_full_name, pure))
        self._functions = {_identifier(one): one for one in model.functions.values()}
        self._operators: dict[tuple[str, str], CustomOp | None] = {}
        self._judged: dict[_Identifier, tuple[bool, bool]] = {}
        self.memory: dict[object, tuple[Fact, ...]] = {}
        self.depth = self.looked_at = 0
        self._numbers = 0
        self.order = self._sorted()

    def function_of(self, node: ir.Node) -> ir.Function | None:
        """Return the function a node certainly calls: one that no operator of ONNX shares its name with."""
        if not self._functions or is_standard(node):
            return None
        found = self.named_by(node)
        if found is not None and not domain_of(node) and is_onnx_operator(node.op_type):
            return None
        return found

    def named_by(self, node: ir.Node) -> ir.Function | None:
        """Return the function with the name of a node's operator."""
        return self._functions.get((domain_of(node), node.op_type, node.overload))

    def operator_of(self, node: ir.Node) -> CustomOp | None:
        """Return the definition of the custom operator a node calls, where it was made with Shipway."""
        if is_standard(node) or node.domain.startswith(_FOREIGN):
            return None
        key = (domain_of(node), node.op_type)
        if key not in self._operators:
            # The package with the operators imports torch, so nothing is looked up without need.
            from shipway.ops.registry import operator_for_node

            self._operators[key] = operator_for_node(*key)
        return self._operators[key]

    def drop(self, function: ir.Function) -> None:
        """Forget a function that has left the model."""
        del self._functions[_identifier(function)]
        self.order = tuple(one for one in self.order if one is not function)

    def judge_again(self) -> None:
        """Forget what was found out about bodies that may have changed since."""
        self._judged.clear()
        self.memory.clear()
        self.looked_at = 0

    def next_number(self) -> int:
        """Return a number nobody had before, to name an unknown size with."""
        self._numbers += 1
        return self._numbers

    def is_repeatable(self, node: ir.Node) -> bool:
        """Whether a node gives the same outputs whenever it gets the same inputs."""
        if is_standard(node):
            return node.op_type not in RANDOM and all(map(self.is_repeatable, _inside(node)))
        return self._trust(node)[0]

    def may_go(self, node: ir.Node) -> bool:
        """Whether a node does nothing but compute its outputs, so that it may go where none is read."""
        return all(map(self.may_go, _inside(node))) if is_standard(node) else self._trust(node)[1]

    def vouched(self, node: ir.Node) -> str:
        """Return "domain::type" of a node that the caller declares to be pure; "" for others."""
        name = f"{domain_of(node)}::{node.op_type}"
        return name if name in self.declared and not is_standard(node) else ""

    def _trust(self, node: ir.Node) -> tuple[bool, bool]:
        """Return whether a node that is no operator of ONNX is repeatable, and whether it may go."""
        function = self.function_of(node)
        if self.vouched(node):
            return True, True
        if function is not None:
            if not self._judged:
                self._judge()
            return self._judged[_identifier(function)]
        op = self.operator_of(node)
        is_pure = node.domain == _ONNX_ML or (op is not None and op.pure)
        return is_pure, is_pure

    def _judge(self) -> None:
        """Judge every function, each after those it calls."""
        for function in reversed(self.order):
            repeatable = all(map(self.is_repeatable, function))
            self._judged[_identifier(function)] = repeatable, all(map(self.may_go, function))

    def callees(self, nodes: Iterable[ir.Node]) -> Iterator[ir.Function]:
        """Yield the functions that nodes, or nodes inside them, name."""
        for node in nodes:
            found = self.named_by(node)
            if found is not None:
                yield found
            yield from self.callees(_inside(node))

    def _sorted(self) -> tuple[ir.Function, ...]:
        """Return the functions, each before those it calls."""
        certain = {
            key: [_identifier(one) for one in self._certain_callees(function)]
            for key, function in self._functions.items()
        }
        try:
            order = tuple(TopologicalSorter(certain).static_order())
        except CycleError as error:
            names = " -> ".join(function_name(self._functions[key]) for key in error.args[1])
            raise ModelError(
                f"Functions of the model call each other in a circle: {names}.",
                hint="ONNX forbids it and no engine runs it: export the model again.",
            ) from error
        return tuple(self._functions[key] for key in reversed(order))

    def _certain_callees(self, function: ir.Function) -> Iterator[ir.Function]:
        for node in function.graph.all_nodes():
            found = self.function_of(node)
            if found is not None:
                yield found


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for graph in subgraphs_of(node):
        yield from graph


def _identifier(function: ir.Function) -> _Identifier:
    domain = "" if function.domain in STANDARD_DOMAINS else function.domain
    return domain, function.name, function.overload


def _full_name(text: str) -> str:
    domain, separator, op_type = text.rpartition("::")
    if not separator or not op_type:
        raise UsageError(
            f"'{text}' names no operator.",
            hint="Write its domain and its type: --pure my.ops::Blend",
        )
    domain = "" if domain in STANDARD_DOMAINS else domain
    if not domain and is_onnx_operator(op_type):
        raise UsageError(
            f"{op_type} is an operator of ONNX, of which it is known whether it is pure.",
            hint="Leave it out.",
        )
    return f"{domain}::{op_type}"
