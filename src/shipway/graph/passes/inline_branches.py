"""Puts the branch of an If in its place where the condition is known."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE", "inlined"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose the nodes of the branch that is always taken."""
    condition = view.knowledge.integers(node.inputs[0])
    if condition is None or len(condition) != 1:
        return None
    return inlined(node, "then_branch" if condition[0] else "else_branch", view)


def inlined(node: ir.Node, taken_branch: str, view: View) -> Rewrite | None:
    """Return the nodes of one branch of an If instead of it, which they leave."""
    names = ("then_branch", "else_branch")
    branch, other = (
        node.attributes[name].as_graph() for name in sorted(names, key=taken_branch.__ne__)
    )
    if view.constants_are_nodes and len(branch.initializers) > 1 + len(other):
        return None
    values = list(branch.outputs)
    if any(value.producer() is None or value.producer().graph is not branch for value in values):  # type: ignore[union-attr] # None is asked for first
        return None
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        view.adopt(value)
    nodes = list(branch)
    taken = {one.name for one in node.graph or ()}
    for inner in nodes:
        if inner.name in taken:
            inner.name = f"{node.name}/{inner.name}" if node.name else None
    branch.outputs.clear()
    branch.remove(nodes)
    return Rewrite(tuple(values), tuple(nodes))


RULE = Rule(
    "inline_branches",
    "exact",
    "Puts the branch of an If in its place where the condition is known.",
    ("If",),
    propose,
)
