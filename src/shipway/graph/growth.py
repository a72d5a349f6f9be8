"""Whether a rewrite leaves more nodes than before, where constants are nodes too."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from shipway.graph.locating import subgraphs_of
from shipway.graph.rules import Rewrite
from shipway.graph.view import View

__all__ = ["growth_of"]


def growth_of(node: ir.Node, rewrite: Rewrite, view: View) -> int:
    """Return how many nodes a rewrite adds, less those it makes superfluous.

    Args:
        node: The node it is for.
        rewrite: What to do; not done yet.
        view: The body.
    """
    if any(subgraphs_of(node)):
        return 0  # what is left of it are its own inner nodes
    read = {value for value in rewrite.values if value is not None}
    read.update(rewrite.operands.values())
    read.update(value for new in rewrite.nodes for value in new.inputs if value is not None)
    added = len(rewrite.nodes) + sum(map(view.is_unused, read))
    if not rewrite.values:
        gone = [value for index, value in enumerate(node.inputs) if index in rewrite.operands]
        spared = {(node, index) for index in rewrite.operands}
        return added - _superfluous(gone, spared, set(), read, view)
    made = {value for new in rewrite.nodes for value in new.outputs}
    added += sum(
        output.is_graph_output()
        and value is not None
        and value not in made
        and not _can_be_output(value, node)
        for output, value in zip(node.outputs, rewrite.values, strict=True)
    )
    return added - 1 - _superfluous(node.inputs, set(), {node}, read, view)


def _can_be_output(value: ir.Value, node: ir.Node) -> bool:
    producer = value.producer()
    return producer is not None and producer.graph is node.graph and not value.is_graph_output()


def _superfluous(
    values: Iterable[ir.Value | None],
    spared: set[tuple[ir.Node, int]],
    gone: set[ir.Node],
    read: set[ir.Value],
    view: View,
) -> int:
    """Count the nodes that nobody reads once some nodes are gone and some reads are spared."""
    before, pending = len(gone), list(values)
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node is None or node in gone or not view.library.may_go(node):
            continue
        outputs = list(node.outputs)
        if any(output in read or output.is_graph_output() for output in outputs):
            continue
        uses = [use for output in outputs for use in output.uses()]
        if all(use.node in gone or (use.node, use.idx) in spared for use in uses):
            gone.add(node)
            pending += node.inputs
    return len(gone) - before
