"""Finds the nodes, values and graphs an edit is about, wherever in the model they lie."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from shipway.errors import UsageError

__all__ = [
    "all_graphs",
    "all_nodes",
    "locate_node",
    "locate_value",
    "opset_imports_of",
    "parent_nodes",
    "subgraphs_of",
    "values_read",
]


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Yield the main graph, the bodies of the functions, and every graph inside them."""
    yield from model.graphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.graph.subgraphs()


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Yield every node of the model, those in sub-graphs and functions too."""
    for graph in all_graphs(model):
        yield from graph


def subgraphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs a node holds as attributes, not those inside them."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values of the node's own graph that it reads, in its sub-graphs too."""
    pending = [node]
    while pending:
        one = pending.pop()
        read: list[ir.Value | None] = [*one.inputs]
        for inner in subgraphs_of(one):
            read.extend(inner.outputs)
            pending.extend(inner)
        yield from (value for value in read if value is not None and value.graph is node.graph)


def parent_nodes(model: ir.Model) -> dict[ir.Graph, ir.Node]:
    """Return the node that holds each sub-graph."""
    return {graph: node for node in all_nodes(model) for graph in subgraphs_of(node)}


def opset_imports_of(model: ir.Model, graph: ir.Graph) -> dict[str, int]:
    """Return the opsets in force in a graph: its function's, or the model's."""
    for function in model.functions.values():
        if function.graph is graph or any(one is graph for one in function.graph.subgraphs()):
            return function.opset_imports
    return model.opset_imports


def locate_node(model: ir.Model, node: ir.Node | str) -> ir.Node:
    """Return a node of the model by its name.

    Raises:
        UsageError: No node, or more than one, has the name; or the node is not in the model.
    """
    if isinstance(node, ir.Node):
        if node.graph is None:
            raise UsageError(f"The node '{node.name}' ({node.op_type}) is in no graph.")
        return node
    found = [one for one in all_nodes(model) if one.name == node]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{len(found)} nodes are named '{node}'.",
            hint="Name them apart with shipway.graph.editing.unify_names(model).",
        )
    known = (one.name for one in all_nodes(model) if one.name)
    raise UsageError(f"There is no node '{node}'.{_nearest(node, known)}", hint=_FIND)


def locate_value(model: ir.Model, value: ir.Value | str) -> ir.Value:
    """Return a value of the model by its name: an input, an initializer, or what a node computes.

    Raises:
        UsageError: No value has the name.
    """
    if isinstance(value, ir.Value):
        return value
    for one in _values(model):
        if one.name == value:
            return one
    known = (one.name for one in _values(model) if one.name)
    raise UsageError(f"There is no value '{value}'.{_nearest(value, known)}", hint=_FIND)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in all_graphs(model):
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


_FIND = "Look names up: shipway graph find MODEL --name '*part*', or --value '*part*'."


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f" Nearest: {', '.join(close)}." if close else ""
