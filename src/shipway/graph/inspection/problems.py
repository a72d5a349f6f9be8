"""What makes a graph invalid that can be seen without running it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from shipway.graph.locating import all_graphs, all_nodes, opset_imports_of, subgraphs_of
from shipway.graph.schemas import find_schema
from shipway.graph.standard import STANDARD_DOMAINS, is_standard

__all__ = ["find_problems"]

_SHOWN = 6


def find_problems(model: ir.Model) -> Iterator[str]:
    """Yield what is wrong with a model: the order of its nodes, its opsets, unknown operators."""
    for graph in all_graphs(model):
        if (cycle := _find_cycle(graph)) is not None:
            yield f"The graph '{graph.name}' has a cycle: {_chain(cycle)}."
        elif (late := _find_late(graph)) is not None:
            yield (
                f"The nodes of the graph '{graph.name}' are not in order: '{late[0].name}' "
                f"({late[0].op_type}) reads '{late[1].name}', which is computed behind it."
            )
    yield from _opset_problems(model)


def _chain(nodes: list[ir.Node]) -> str:
    names = [f"{node.op_type} '{node.name}'" if node.name else node.op_type for node in nodes]
    if len(names) > _SHOWN:
        names = [*names[: _SHOWN - 1], f"{len(names) - _SHOWN + 1} more"]
    return " -> ".join([*names, names[0]])


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what a node reads, and what the nodes inside it do."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs_of(node):
        yield from graph.outputs
        for inner in graph.all_nodes():
            yield from (value for value in inner.inputs if value is not None)


def _find_late(graph: ir.Graph) -> tuple[ir.Node, ir.Value] | None:
    """Return the first node that reads a value computed behind it, and the value."""
    seen: set[ir.Node] = set()
    for node in graph:
        for value in _reads(node):
            producer = value.producer()
            if producer is not None and producer.graph is graph and producer not in seen:
                return node, value
        seen.add(node)
    return None


def _find_cycle(graph: ir.Graph) -> list[ir.Node] | None:
    """Return nodes each of which feeds the next, the last one the first; None if there are none."""
    sources: dict[ir.Node, set[ir.Node]] = {}
    readers: dict[ir.Node, list[ir.Node]] = {}
    for node in graph:
        producers = {value.producer() for value in _reads(node)}
        own = {one for one in producers if one is not None and one.graph is graph}
        sources[node] = own
        for one in own:
            readers.setdefault(one, []).append(node)
    waiting = {node: len(own) for node, own in sources.items()}
    ready = [node for node, count in waiting.items() if not count]
    while ready:
        node = ready.pop()
        del waiting[node]
        for reader in readers.get(node, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if not waiting:
        return None
    trail = {next(iter(waiting)): 0}
    while True:
        last = next(reversed(trail))
        before = next(node for node in sources[last] if node in waiting)
        if before in trail:
            return list(trail)[trail[before] :][::-1]
        trail[before] = len(trail)


def _opset_problems(model: ir.Model) -> Iterator[str]:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    version = next(
        (model.opset_imports[one] for one in ("", "ai.onnx") if one in model.opset_imports), None
    )
    if version is None and any(is_standard(node) for node in all_nodes(model)):
        yield f"The model imports no opset of ONNX's own; its sizes are taken as in opset {newest}."
    elif version is not None and version > newest:
        yield f"Opset {version} is newer than the {newest} of the installed onnx."
    reported: set[tuple[str, str]] = set()
    for graph in all_graphs(model):
        imports = opset_imports_of(model, graph)
        for node in graph:
            key = (node.domain, node.op_type)
            if key not in reported and (problem := _operator_problem(model, node, imports)):
                reported.add(key)
                yield problem


def _operator_problem(model: ir.Model, node: ir.Node, imports: dict[str, int]) -> str:
    if node.op_identifier() in model.functions:
        return ""
    if not is_standard(node):
        if node.domain in imports:
            return ""
        return (
            f"'{node.name}' is {node.domain}::{node.op_type}, a domain the model does not import."
        )
    version = next((imports[one] for one in STANDARD_DOMAINS if one in imports), None)
    if version is None or find_schema(node.op_type, "", version) is not None:
        return ""
    known = find_schema(node.op_type, "", None)
    if known is None:
        return f"ONNX has no operator {node.op_type}, which '{node.name}' is."
    return (
        f"ONNX has no operator {node.op_type} in opset {version}, which '{node.name}' is: "
        f"it came with {known.since_version} or went before."
    )
