"""Names of nodes and values: unused ones, and unique ones."""

from __future__ import annotations

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.locating import all_graphs, locate_node, locate_value

__all__ = ["Names", "rename_node", "rename_value", "unify_names"]


class Names:
    """The names a model has taken, of nodes and of values, all graphs together.

    ONNX lets the graph inside an If read the values around it, so one set serves them all.

    Args:
        model: The model.
    """

    def __init__(self, model: ir.Model) -> None:
        """Collect the names."""
        self._values: set[str] = set()
        self._nodes: set[str] = set()
        for graph in all_graphs(model):
            self._values.update(one.name for one in graph.inputs if one.name)
            self._values.update(graph.initializers)
            for node in graph:
                self._nodes.add(node.name or "")
                self._values.update(one.name for one in node.outputs if one.name)

    @property
    def values(self) -> frozenset[str]:
        """The names of values."""
        return frozenset(self._values)

    def has_value(self, name: str | None) -> bool:
        """Whether a value has the name."""
        return name in self._values

    def has_node(self, name: str | None) -> bool:
        """Whether a node has the name."""
        return name in self._nodes

    def take_value(self, stem: str) -> str:
        """Return a value name nobody has, and take it."""
        return _take(self._values, stem)

    def take_node(self, stem: str) -> str:
        """Return a node name nobody has, and take it."""
        return _take(self._nodes, stem)


def _take(taken: set[str], stem: str) -> str:
    name, count = stem, 0
    while name in taken or not name:
        count += 1
        name = f"{stem}_{count}"
    taken.add(name)
    return name


def rename_value(model: ir.Model, value: ir.Value | str, name: str) -> ir.Value:
    """Rename a value; a graph input or output gets a new name in the signature.

    Raises:
        UsageError: There is no such value, or another one has the name.
    """
    found = locate_value(model, value)
    if not name:
        raise UsageError(f"'{found.name}' needs a name that is not empty.")
    if name == found.name:
        return found
    if Names(model).has_value(name):
        raise UsageError(f"'{found.name}' cannot be renamed: there is a value '{name}' already.")
    set_name(found, name)
    return found


def set_name(value: ir.Value, name: str) -> None:
    """Give a value a name that is free, in the table of initializers too."""
    graph = value.graph
    if graph is None or value.name is None or graph.initializers.get(value.name) is not value:
        value.name = name
        return
    del graph.initializers[value.name]
    value.name = name
    if value.const_value is not None:
        value.const_value.name = name
    graph.initializers[name] = value


def rename_node(model: ir.Model, node: ir.Node | str, name: str) -> ir.Node:
    """Rename a node.

    Raises:
        UsageError: There is no such node, or another one has the name.
    """
    found = locate_node(model, node)
    if name != found.name and Names(model).has_node(name):
        raise UsageError(f"'{found.name}' cannot be renamed: there is a node '{name}' already.")
    found.name = name
    return found


def unify_names(model: ir.Model) -> int:
    """Give every node and value a name of its own; the first of equal ones keeps it.

    Graph inputs and outputs are never renamed.

    Returns:
        How many were renamed.
    """
    values: dict[str, ir.Value] = {}
    for graph in all_graphs(model):
        for value in (*graph.inputs, *graph.initializers.values(), *graph.outputs):
            if value.name:
                values.setdefault(value.name, value)
    nodes: dict[str, ir.Node] = {}
    counts: tuple[dict[str, int], dict[str, int]] = {}, {}
    return sum(_unify(graph, values, nodes, *counts) for graph in all_graphs(model))


def _unify(
    graph: ir.Graph,
    values: dict[str, ir.Value],
    nodes: dict[str, ir.Node],
    value_counts: dict[str, int],
    node_counts: dict[str, int],
) -> int:
    count = 0
    for node in graph:
        if not node.name or nodes.setdefault(node.name, node) is not node:
            node.name = _free(nodes, node.name or node.op_type, node_counts)
            nodes[node.name] = node
            count += 1
        for value in node.outputs:
            if value.name and values.setdefault(value.name, value) is not value:
                value.name = _free(values, value.name, value_counts)
                values[value.name] = value
                count += 1
    return count


def _free(
    taken: dict[str, ir.Value] | dict[str, ir.Node], stem: str, counts: dict[str, int]
) -> str:
    """Return a free name; `counts` remembers how far a stem is used, for files of unnamed nodes."""
    count = counts.get(stem, 1)
    while f"{stem}_{count}" in taken:
        count += 1
    counts[stem] = count
    return f"{stem}_{count}"
