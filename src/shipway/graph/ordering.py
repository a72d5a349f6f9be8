"""The order of nodes: each after what it reads."""

from __future__ import annotations

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.locating import parent_nodes, subgraphs_of

__all__ = ["needed_by", "sort_graph"]


def sort_graph(model: ir.Model) -> None:
    """Sort nodes so that each comes after what it reads; a sorted graph stays as it is.

    Raises:
        ModelError: The graph has a cycle.
    """
    for graph in (model.graph, *(one.graph for one in model.functions.values())):
        if not _is_sorted(graph, set()):
            try:
                graph.sort()
            except ValueError as error:
                raise ModelError(
                    f"The graph '{graph.name}' has a cycle: a node reads what is computed from it.",
                    hint="shipway graph inspect MODEL names its nodes.",
                ) from error


def _is_sorted(graph: ir.Graph, seen: set[ir.Value]) -> bool:
    for node in graph:
        for value in node.inputs:
            if value is not None and value.producer() is not None and value not in seen:
                return False
        if not all(_is_sorted(inner, seen) for inner in subgraphs_of(node)):
            return False
        seen.update(node.outputs)
    return True


def needed_by(model: ir.Model, value: ir.Value) -> set[ir.Node]:
    """Return the nodes a value is computed from."""
    parents = parent_nodes(model)
    pending, seen = [value.producer()], set[ir.Node]()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        pending += [one.producer() for one in node.inputs if one is not None]
        for graph in subgraphs_of(node):
            pending += graph.all_nodes()
        if node.graph in parents:
            seen.add(parents[node.graph])
    return seen
