"""Finds values that are certainly equal: the same operator on the same inputs, or the same numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import onnx_ir as ir

from shipway.graph.aside import domain_of
from shipway.graph.attributes import freeze_attributes
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["SAME_NODE", "SAME_NUMBERS", "Numbering"]

SAME_NODE = Rule(
    "merge_equal_nodes",
    "exact",
    "Computes once what several nodes compute from the same inputs. Never random operators, "
    "and custom ones only where they are declared pure.",
    (),
    lambda _node, _view: None,
)
SAME_NUMBERS = Rule(
    "merge_equal_numbers",
    "exact",
    "Computes once what are the same symbolic integers, however they were computed: the sizes that "
    "exporters read again for every layer.",
    (),
    lambda _node, _view: None,
)


class Numbering:
    """Tables of values seen so far; those of a sub-graph are forgotten behind it.

    Args:
        view: The graph.
    """

    def __init__(self, view: View) -> None:
        """Begin with nothing seen."""
        self._view = view
        self._scopes: list[dict[Hashable, ir.Node]] = [{}]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """While it lasts, what is seen is visible inside only."""
        self._scopes.append({})
        try:
            yield
        finally:
            self._scopes.pop()

    def propose(self, node: ir.Node) -> tuple[Rule, Rewrite] | None:
        """Return the equal node's outputs to read instead; note the node where there is none."""
        if is_standard(node, "Constant") and self._view.is_constant(node.outputs[0]):
            return self._propose_constant(node)
        for rule, key in self._keys(node):
            found = self._find(key)
            if found is not None and found is not node:
                values = [found.outputs[index] for index in range(len(node.outputs))]
                return rule, Rewrite(tuple(values))
            self._scopes[-1][key] = node
        return None

    def _propose_constant(self, node: ir.Node) -> tuple[Rule, Rewrite] | None:
        found = self._view.equal_constant(node.outputs[0])
        return None if found is None else (SAME_NODE, Rewrite((found,)))

    def _find(self, key: Hashable) -> ir.Node | None:
        for scope in reversed(self._scopes):
            node = scope.get(key)
            if node is not None and node.graph is not None:
                return node
        return None

    def _keys(self, node: ir.Node) -> Iterator[tuple[Rule, Hashable]]:
        if not self._view.library.is_repeatable(node):
            return
        attributes = freeze_attributes(node.attributes)
        if attributes is not None:
            names = tuple(bool(value.name) for value in node.outputs)
            head = (domain_of(node), node.op_type, node.overload)
            yield SAME_NODE, (*head, *map(id, node.inputs), attributes, names)
        if len(node.outputs) == 1:
            fact = self._view.fact(node.outputs[0])
            if fact.content is not None and fact.shape is not None:
                yield SAME_NUMBERS, ("numbers", fact.dtype, len(fact.shape), fact.content)
