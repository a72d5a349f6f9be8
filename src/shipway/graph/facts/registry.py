"""Which function knows the shape of which operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import onnx_ir as ir

from shipway.graph.facts.fact import Fact
from shipway.graph.facts.knowledge import Knowledge

__all__ = ["RULES", "Call", "shapes_of"]


class Call(NamedTuple):
    """One node while its outputs are inferred."""

    node: ir.Node
    inputs: Sequence[ir.Value | None]
    facts: Sequence[Fact]
    knowledge: Knowledge

    @property
    def first(self) -> Fact:
        """What is known of the first input."""
        return self.facts[0]

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def integers(self, index: int) -> tuple[int, ...] | None:
        """Return the numbers of an input, where all are known."""
        return self.knowledge.integers(self.inputs[index]) if self.has(index) else None

    def ints(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute of several integers."""
        found = self.node.attributes.get(name)
        return None if found is None else tuple(found.as_ints())

    def int(self, name: str, default: int = 0) -> int:
        """Return an attribute that is an integer."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_int()

    def text(self, name: str, default: str = "") -> str:
        """Return an attribute that is a text."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_string()


Rule = Callable[[Call], "Sequence[Fact] | None"]

RULES: dict[str, Rule] = {}
"""By type of a standard operator. None as a result: nothing is known."""


def shapes_of(*op_types: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for operators."""

    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            RULES[op_type] = rule
        return rule

    return register
