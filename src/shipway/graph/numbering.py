"""Finds values that are certainly equal: the same operator on the same inputs, or the same numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["RANDOM", "SAME_NODE", "SAME_NUMBERS", "Numbering"]

_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})
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

SAME_NODE = Rule(
    "merge_equal_nodes",
    "exact",
    "Computes once what several nodes compute from the same inputs. Never random operators, "
    "never custom ones.",
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
        for rule, key in self._keys(node):
            found = self._find(key)
            if found is not None and found is not node:
                values = [found.outputs[index] for index in range(len(node.outputs))]
                return rule, Rewrite(tuple(values))
            self._scopes[-1][key] = node
        return None

    def _find(self, key: Hashable) -> ir.Node | None:
        for scope in reversed(self._scopes):
            node = scope.get(key)
            if node is not None and node.graph is not None:
                return node
        return None

    def _keys(self, node: ir.Node) -> Iterator[tuple[Rule, Hashable]]:
        if not is_standard(node) or node.op_type in RANDOM:
            return
        attributes = _frozen(node)
        if attributes is not None:
            names = tuple(bool(value.name) for value in node.outputs)
            yield SAME_NODE, (node.op_type, *map(id, node.inputs), attributes, names)
        if len(node.outputs) == 1:
            fact = self._view.fact(node.outputs[0])
            if fact.content is not None and fact.shape is not None:
                yield SAME_NUMBERS, ("numbers", fact.dtype, len(fact.shape), fact.content)


def _frozen(node: ir.Node) -> Hashable | None:
    """Return a node's attributes as something to compare; None where they hold graphs."""
    found: list[tuple[str, Any]] = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.type in _GRAPHS:
            return None
        found.append((name, _frozen_value(attribute)))
    return tuple(found)


def _frozen_value(attribute: ir.Attr) -> Hashable:
    if attribute.is_ref():
        return ("reference", attribute.ref_attr_name)
    value: Any = attribute.value
    if attribute.type is ir.AttributeType.TENSOR:
        return (int(value.dtype), tuple(value.shape.numpy()), value.tobytes())
    if isinstance(value, float):
        return value.hex()  # 0.0 and -0.0 are different
    if isinstance(value, (list, tuple)):
        return tuple(one.hex() if isinstance(one, float) else repr(one) for one in value)
    return repr(value)
