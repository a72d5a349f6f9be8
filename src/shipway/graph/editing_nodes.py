"""Adds, inserts, removes, replaces and reconnects nodes, in the main graph and inside others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.building import carry_metadata, drop_unused, is_output, put_in_place
from shipway.graph.locating import (
    all_graphs,
    locate_node,
    locate_value,
    opset_imports_of,
    parent_nodes,
    subgraphs_of,
)
from shipway.graph.naming import Names
from shipway.graph.ordering import needed_by, sort_graph
from shipway.graph.schemas import check_node

__all__ = [
    "add_node",
    "insert_node",
    "reconnect",
    "remove_node",
    "remove_unused",
    "replace_node",
    "set_attribute",
]


def add_node(
    model: ir.Model,
    op_type: str,
    inputs: Sequence[ir.Value | str | None],
    *,
    outputs: Sequence[str] = ("",),
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
    name: str = "",
) -> ir.Node:
    """Add a node behind the nodes it reads; nothing reads it yet.

    It goes into the innermost graph that computes one of its inputs, so that values inside an If
    can be used there, and only there.

    Args:
        model: The model.
        op_type: Operator, e.g. "Relu".
        inputs: Values or their names; None leaves an optional input out.
        outputs: Names of what it computes; "" takes a free one.
        attributes: As Python values; numpy arrays become tensors.
        domain: Domain of the operator; the model must import it.
        name: Name of the node; a free one if not given.

    Returns:
        The node.

    Raises:
        UsageError: A name is unknown or taken, the operator does not take this, or the inputs lie
            in graphs that cannot see each other.
    """
    values = [None if one is None else locate_value(model, one) for one in inputs]
    node = _new_node(model, op_type, values, attributes, domain=domain, name=name, outputs=outputs)
    graph = _home(model, values)
    check_node(node, opset_imports_of(model, graph).get(domain))
    _import_domain(model, graph, domain)
    _place(model, graph, node)
    return node


def _new_node(
    model: ir.Model,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None,
    *,
    domain: str,
    name: str,
    outputs: Sequence[str],
) -> ir.Node:
    names = Names(model)
    node_name = names.take_node(name or op_type)
    if name and node_name != name:
        raise UsageError(f"There is a node '{name}' already.")
    values = [ir.Value(name=_output_name(names, one, node_name)) for one in outputs]
    attributes = dict(attributes or {})
    return ir.node(op_type, inputs, attributes, domain=domain, outputs=values, name=node_name)


def _output_name(names: Names, wanted: str, node_name: str) -> str:
    taken = names.take_value(wanted or f"{node_name}_output")
    if wanted and taken != wanted:
        raise UsageError(f"There is a value '{wanted}' already.")
    return taken


def _import_domain(model: ir.Model, graph: ir.Graph, domain: str) -> None:
    for imports in (opset_imports_of(model, graph), model.opset_imports):
        imports.setdefault(domain, 1)


def _home(model: ir.Model, values: Iterable[ir.Value | None]) -> ir.Graph:
    """Return the innermost of the graphs some values are from.

    Raises:
        UsageError: One of the graphs is not around the others.
    """
    parents = parent_nodes(model)
    home = model.graph
    depth = len(_around(home, parents))
    graphs = [value.graph for value in values if value is not None]
    for graph in graphs:
        if graph is not None and len(_around(graph, parents)) > depth:
            home, depth = graph, len(_around(graph, parents))
    functions = {function.graph for function in model.functions.values()}
    inside = [graph for graph in graphs if graph in functions]
    home = inside[0] if inside and home is model.graph else home
    seen = _around(home, parents)
    for value in values:
        if value is not None and value.graph is not None and value.graph not in seen:
            raise UsageError(
                f"'{value.name}' lies in a graph that '{home.name}' cannot see.",
                hint="A node reads values of its own graph and of those around it.",
            )
    return home


def _around(graph: ir.Graph, parents: Mapping[ir.Graph, ir.Node]) -> list[ir.Graph]:
    """Return a graph and those around it, from the inside out."""
    found = [graph]
    while (node := parents.get(found[-1])) is not None and node.graph is not None:
        found.append(node.graph)
    return found


def _place(model: ir.Model, graph: ir.Graph, node: ir.Node) -> None:
    """Put a node right behind the last node it needs."""
    producers = {value.producer() for value in node.inputs if value is not None}
    last = next((one for one in reversed(graph) if one in producers), None)
    if last is not None:
        graph.insert_after(last, node)
    elif len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
    if any(True for _ in subgraphs_of(node)):
        sort_graph(model)


def insert_node(
    model: ir.Model,
    op_type: str,
    value: ir.Value | str,
    *,
    inputs: Sequence[ir.Value | str] = (),
    users: Sequence[ir.Node | str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
    name: str = "",
) -> ir.Node:
    """Insert a node on a value: what read the value reads the node instead.

    Where the value is an output of the graph and all users move, the node's result becomes that
    output, under the same name.

    Args:
        model: The model.
        op_type: Operator.
        value: What the node takes as its first input.
        inputs: What else it takes, e.g. constants.
        users: The nodes that shall read the new node; all users, and the graph's outputs, if not
            given.
        attributes: As Python values.
        domain: Domain of the operator.
        name: Name of the node; a free one if not given.

    Returns:
        The node.

    Raises:
        UsageError: As for `add_node`; or one of `users` does not read the value.
    """
    found = locate_value(model, value)
    chosen = None if users is None else [locate_node(model, one) for one in users]
    readers = {use.node for use in found.uses()}
    for one in chosen or ():
        if one not in readers:
            raise UsageError(f"'{one.name}' ({one.op_type}) does not read '{found.name}'.")
    node = add_node(
        model, op_type, [found, *inputs], attributes=attributes, domain=domain, name=name
    )
    producer = found.producer()
    carry_metadata([producer or next(iter(readers), node)], node)
    _lead_through(model, found, node, chosen)
    sort_graph(model)
    return node


def _lead_through(
    model: ir.Model, value: ir.Value, node: ir.Node, chosen: Sequence[ir.Node] | None
) -> None:
    uses = [use for use in value.uses() if use.node is not node]
    new = node.outputs[0]
    if chosen is None and is_output(value) and value.producer() is not None:
        own = [use for use in value.uses() if use.node is node]
        put_in_place(value, new, Names(model), fresh=True)
        for use in own:
            node.replace_input_with(use.idx, value)
        return
    for use in uses:
        if chosen is None or use.node in chosen:
            use.node.replace_input_with(use.idx, new)


def remove_node(
    model: ir.Model, node: ir.Node | str, *, keep: ir.Value | str | int | None = 0
) -> None:
    """Remove a node; what read its output reads one of its inputs, or another value.

    A graph output keeps its name. What only the removed node needed is removed too.

    Args:
        model: The model.
        node: The node or its name.
        keep: What takes the place of its first output: the number of an input, or a value.
            None if nothing reads it.

    Raises:
        UsageError: Something reads another of its outputs, or there is nothing to take its place.
    """
    found = locate_node(model, node)
    label = f"'{found.name}' ({found.op_type})"
    for value in found.outputs[0 if keep is None else 1 :]:
        if value.uses() or is_output(value):
            raise UsageError(
                f"{label} cannot be removed: '{value.name}' is still read.",
                hint="Reconnect its users first, with reconnect(model, node, index, value).",
            )
    if keep is not None and found.outputs and _is_needed(found.outputs[0]):
        new = _kept(model, found, keep, label)
        _refuse_cycle(model, found.outputs[0], new, label)
        put_in_place(found.outputs[0], new, Names(model))
    drop_unused([found])
    sort_graph(model)


def _is_needed(value: ir.Value) -> bool:
    return bool(value.uses()) or is_output(value)


def _kept(model: ir.Model, node: ir.Node, keep: ir.Value | str | int, label: str) -> ir.Value:
    if not isinstance(keep, int):
        return locate_value(model, keep)
    value = node.inputs[keep] if 0 <= keep < len(node.inputs) else None
    if value is None:
        raise UsageError(
            f"{label} has no input {keep} to take its place.",
            hint="Give keep= another input or value; keep=None where nothing reads its output.",
        )
    return value


def _refuse_cycle(model: ir.Model, old: ir.Value, new: ir.Value, label: str) -> None:
    readers = {use.node for use in old.uses()}
    if new.producer() is not None and readers & needed_by(model, new):
        raise UsageError(
            f"{label} cannot give way to '{new.name}': that is computed from what reads it."
        )


def replace_node(
    model: ir.Model,
    node: ir.Node | str,
    op_type: str,
    inputs: Sequence[ir.Value | str | None] | None = None,
    *,
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
) -> ir.Node:
    """Replace a node by another with the same outputs; its name and metadata stay.

    Args:
        model: The model.
        node: The node or its name.
        op_type: The new operator.
        inputs: What it takes; those of the old node if not given.
        attributes: Of the new operator; none of the old node's are taken over.
        domain: Domain of the new operator.

    Returns:
        The new node.

    Raises:
        UsageError: As for `add_node`, or the node would read what is computed from it.
    """
    old = locate_node(model, node)
    values = list(old.inputs)
    if inputs is not None:
        values = [None if one is None else locate_value(model, one) for one in inputs]
    outputs = [
        ir.Value(name=one.name, type=one.type, shape=one.shape, metadata_props=one.metadata_props)
        for one in old.outputs
    ]
    attributes = dict(attributes or {})
    new = ir.node(op_type, values, attributes, domain=domain, outputs=outputs, name=old.name)
    graph = _graph_of(old)
    check_node(new, opset_imports_of(model, graph).get(domain))
    for value in values:
        if value is not None and value.producer() is not None and old in needed_by(model, value):
            new.resize_inputs(0)
            raise UsageError(f"'{value.name}' is computed from '{old.name}', so it cannot feed it.")
    _import_domain(model, graph, domain)
    carry_metadata([old], new)
    graph.insert_before(old, new)
    ir.convenience.replace_all_uses_with(old.outputs, new.outputs, replace_graph_outputs=True)
    drop_unused([old])
    sort_graph(model)
    return new


def _graph_of(node: ir.Node) -> ir.Graph:
    if node.graph is None:
        raise UsageError(f"The node '{node.name}' ({node.op_type}) is in no graph.")
    return node.graph


def reconnect(
    model: ir.Model, node: ir.Node | str, index: int, value: ir.Value | str | None
) -> None:
    """Let one input of a node read another value.

    Args:
        model: The model.
        node: The node or its name.
        index: Number of the input, from 0; the next free one adds an input.
        value: What it shall read; None leaves an optional input out.

    Raises:
        UsageError: There is no such input, or the value is computed from the node.
    """
    found = locate_node(model, node)
    label = f"'{found.name}' ({found.op_type})"
    if not 0 <= index <= len(found.inputs):
        raise UsageError(f"{label} has {len(found.inputs)} inputs, so none numbered {index}.")
    new = None if value is None else locate_value(model, value)
    if new is not None and new.producer() is not None and found in needed_by(model, new):
        raise UsageError(f"'{new.name}' is computed from {label}, so it cannot feed it.")
    if new is not None and _home(model, [new, found.outputs[0]]) is not found.graph:
        raise UsageError(f"'{new.name}' lies in a graph that {label} cannot see.")
    if index == len(found.inputs):
        found.resize_inputs(index + 1)
    found.replace_input_with(index, new)
    sort_graph(model)


def set_attribute(model: ir.Model, node: ir.Node | str, **attributes: Any) -> None:
    """Set attributes of a node; None removes one.

    Raises:
        UsageError: The operator has no such attribute, or needs the one that is removed.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text(
        ...     '<ir_version: 8, opset_import: ["": 17]> '
        ...     "g (float[2,3] x) => (float[2,3] y) {[s] y = Softmax(x)}"
        ... )
        >>> set_attribute(model, "s", axis=0)
        >>> model.graph.node("s").attributes["axis"].value
        0
    """
    found = locate_node(model, node)
    before = dict(found.attributes)
    for name, value in attributes.items():
        if value is None:
            found.attributes.pop(name, None)
        else:
            found.attributes[name] = ir.convenience.convert_attribute(name, value)
    try:
        check_node(found, opset_imports_of(model, _graph_of(found)).get(found.domain))
    except UsageError:
        found.attributes.clear()
        found.attributes.update(before)
        raise


def remove_unused(model: ir.Model) -> int:
    """Remove the nodes that no output needs, and return how many."""
    count = 0
    for graph in all_graphs(model):
        count += sum(drop_unused([node]) for node in reversed(list(graph)))
    return count
