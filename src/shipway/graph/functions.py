"""Model-local functions: calls replaced by their bodies, and nodes made a function."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.building import carry_metadata
from shipway.graph.locating import all_nodes, locate_node, subgraphs_of
from shipway.graph.naming import Names, unify_names
from shipway.graph.ordering import sort_graph

__all__ = ["inline_functions", "outline_function", "read_by"]


def inline_functions(model: ir.Model, *, only: Collection[str] = ()) -> int:
    """Replace calls of model-local functions by their bodies, calls inside those too.

    The metadata of the call is given to nodes of the body that have none of their own.

    Args:
        model: The model.
        only: Names of functions, e.g. "Attention" or "mine::Attention"; all if empty.

    Returns:
        How many calls were replaced.

    Raises:
        UsageError: The model has no such function.
    """
    from onnx_ir.passes.common import InlinePass

    for name in only:
        if not any(_is_named(one, name) for one in model.functions.values()):
            known = ", ".join(f"{one.domain}::{one.name}" for one in model.functions.values())
            raise UsageError(f"The model has no function '{name}'. It has {known or 'none'}.")
    chosen = {
        key
        for key, one in model.functions.items()
        if not only or any(_is_named(one, name) for name in only)
    }
    calls = [node for node in all_nodes(model) if node.op_identifier() in chosen]
    _check_opsets(model, chosen)
    outer = [node for node in calls if node.graph in set(model.graphs())]
    before = {node for graph in model.graphs() for node in graph}
    origin = {value.name: node for node in outer for value in node.outputs}
    InlinePass(criteria=lambda function: function.identifier() in chosen)(model)
    for key in chosen:
        model.functions.pop(key, None)
    _annotate(model, before, origin)
    unify_names(model)
    sort_graph(model)
    return len(calls)


def _is_named(function: ir.Function, name: str) -> bool:
    return name in {function.name, f"{function.domain}::{function.name}"}


def _check_opsets(model: ir.Model, chosen: set[ir.OperatorIdentifier]) -> None:
    """Refuse a body whose operators would mean something else among the model's own."""
    for key in chosen:
        function = model.functions[key]
        for domain, version in function.opset_imports.items():
            have = model.opset_imports.setdefault(domain, version)
            if have != version:
                raise ModelError(
                    f"The function {function.domain}::{function.name} is written in opset "
                    f"{version} of '{domain or 'ai.onnx'}', the model in {have}.",
                    hint=f"shipway graph edit MODEL convert-opset --version {have} --output OUT",
                )


def _annotate(model: ir.Model, before: set[ir.Node], origin: dict[str | None, ir.Node]) -> None:
    """Walk back from the outputs of each call, and give its metadata to what it became."""
    for graph in model.graphs():
        owner: dict[ir.Node, ir.Node] = {}
        for node in reversed(graph):
            if node in before:
                continue
            call = next((origin[one.name] for one in node.outputs if one.name in origin), None)
            readers = (use.node for value in node.outputs for use in value.uses())
            call = call or next((owner[one] for one in readers if one in owner), None)
            if call is not None:
                owner[node] = call
                for name, text in call.metadata_props.items():
                    node.metadata_props.setdefault(name, text)


def outline_function(
    model: ir.Model, nodes: Sequence[ir.Node | str], name: str, *, domain: str = "local"
) -> ir.Node:
    """Make nodes of the main graph a model-local function, and call it in their place.

    Args:
        model: The model.
        nodes: The nodes or their names.
        name: Name of the function.
        domain: Its domain.

    Returns:
        The node that calls it. Its inputs are what the nodes read, weights included, in the order
        of the nodes; its outputs are what others read of them.

    Raises:
        UsageError: No nodes are given, they lie in different graphs, a value leaves them and comes
            back, or the model has such a function.
    """
    chosen = [locate_node(model, node) for node in nodes]
    inside = set(chosen)
    graph = chosen[0].graph if chosen else None
    if not isinstance(graph, ir.Graph) or any(node.graph is not graph for node in chosen):
        raise UsageError("Outlining needs nodes, all in one graph.")
    if (domain, name, "") in model.functions:
        raise UsageError(f"The model has a function {domain}::{name} already.")
    ordered = [node for node in graph if node in inside]
    inputs, outputs = _inputs(ordered), _outputs(ordered)
    _refuse_detour(ordered, inside)
    function = _function(model, ordered, inputs, outputs, (domain, name))
    names = Names(model)
    results = [
        ir.Value(name=one.name, type=one.type, shape=one.shape, metadata_props=one.metadata_props)
        for one in outputs
    ]
    call = ir.node(name, inputs, domain=domain, outputs=results, name=names.take_node(name))
    carry_metadata(ordered, call)
    graph.insert_after(ordered[-1], call)
    ir.convenience.replace_all_uses_with(outputs, results, replace_graph_outputs=True)
    graph.remove(ordered, safe=True)
    model.functions[function.identifier()] = function
    model.opset_imports.setdefault(domain, 1)
    sort_graph(model)
    return call


def _inputs(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """Return what nodes read from outside, in order, what their sub-graphs read too."""
    own = {value for node in nodes for value in _made_by(node)}
    read = (value for node in nodes for value in read_by(node) if value not in own)
    return list(dict.fromkeys(read))


def _made_by(node: ir.Node) -> list[ir.Value]:
    found = list(node.outputs)
    for graph in subgraphs_of(node):
        found += [*graph.inputs, *graph.initializers.values()]
        found += [value for inner in graph for value in _made_by(inner)]
    return found


def read_by(node: ir.Node) -> list[ir.Value]:
    """Return what a node reads, and what everything inside it reads."""
    found = [value for value in node.inputs if value is not None]
    for graph in subgraphs_of(node):
        found += [value for inner in graph for value in read_by(inner)]
        found += list(graph.outputs)
    return found


def _outputs(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    inside = {inner for node in nodes for inner in (node, *_inner_nodes(node))}
    return [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(use.node not in inside for use in value.uses())
    ]


def _inner_nodes(node: ir.Node) -> list[ir.Node]:
    return [inner for graph in subgraphs_of(node) for inner in graph.all_nodes()]


def _refuse_detour(nodes: Sequence[ir.Node], inside: set[ir.Node]) -> None:
    """Refuse nodes between which another one lies: the call would have to come before itself."""
    graph = nodes[0].graph
    behind: set[ir.Node] = set()
    for node in graph or ():
        sources = {value.producer() for value in read_by(node)}
        if node in inside and sources & behind:
            other = next(one for one in sources & behind if one is not None)
            raise UsageError(
                f"'{other.name}' ({other.op_type}) lies between the nodes of the function.",
                hint="Take it in, or leave out what follows it.",
            )
        if node not in inside and (sources & inside or sources & behind):
            behind.add(node)


def _function(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    name: tuple[str, str],
) -> ir.Function:
    view = ir.GraphView(inputs, outputs, nodes=nodes, opset_imports=model.opset_imports)
    body = view.clone()
    used = {node.domain for node in body.all_nodes()}
    imports = {key: version for key, version in model.opset_imports.items() if key in used}
    body.opset_imports.clear()
    body.opset_imports.update(imports)
    body.initializers.clear()
    for value in (*body.inputs, *(one for node in body.all_nodes() for one in node.outputs)):
        value.type = value.shape = value.const_value = None
    return ir.Function(name[0], name[1], graph=body, attributes=())
