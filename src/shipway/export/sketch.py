"""The wiring of an ONNX graph by value names: light enough to keep while the graph is rewritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shipway.source.origins import read_scopes

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["GraphSketch", "all_values", "node_origin", "sketch_graph"]


@dataclass(frozen=True, slots=True)
class GraphSketch:
    """Who computes what from what.

    Args:
        operators: Operator that computes each value.
        sources: What each value is computed from; values captured by a subgraph count.
        consumers: What is computed from each value.
        origins: Node of the decomposed program that each value was translated from.
        initializers: Weight of each name, as an object: the same object is the same content.
        inputs: Graph inputs.
    """

    operators: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]
    consumers: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, str]
    initializers: Mapping[str, Any]
    inputs: tuple[str, ...]

    def constants(self) -> set[str]:
        """Return the values that depend on no graph input."""
        live = set(self.inputs)
        for name, sources in self.sources.items():
            if live.intersection(sources) or self.operators[name].startswith("Random"):
                live.add(name)
        return set(self.sources).union(self.initializers) - live

    def descendants(self, name: str, stop: set[str]) -> tuple[str, ...]:
        """Return the nearest values in `stop` that are computed from `name`, in graph order."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        queue = [name]
        while queue:
            for value in self.consumers.get(queue.pop(0), ()):
                if value in seen:
                    continue
                seen.add(value)
                if value in stop:
                    found[value] = None
                else:
                    queue.append(value)
        return tuple(found)


def sketch_graph(model: ir.Model) -> GraphSketch:
    """Draw the main graph of a model, whose nodes are in topological order."""
    graph = model.graph
    operators: dict[str, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    consumers: dict[str, list[str]] = {}
    origins: dict[str, str] = {}
    for node in graph:
        names = tuple(dict.fromkeys(_read_names(node)))
        origin = node_origin(node)
        for output in (value.name for value in node.outputs if value.name):
            operators[output], sources[output] = node.op_type, names
            if origin:
                origins[output] = origin
            for name in names:
                consumers.setdefault(name, []).append(output)
    return GraphSketch(
        operators,
        sources,
        {name: tuple(values) for name, values in consumers.items()},
        origins,
        {name: value.const_value for name, value in graph.initializers.items()},
        tuple(value.name or "" for value in graph.inputs),
    )


def _read_names(node: ir.Node) -> Iterator[str]:
    """Yield the names of what a node reads, also inside the graphs of its attributes."""
    import onnx_ir as ir

    yield from (value.name for value in node.inputs if value is not None and value.name)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from _read_names(inner)


def node_origin(node: ir.Node) -> str:
    """Return the node of the decomposed program a node was translated from, "" if it is unknown."""
    scopes = read_scopes(node.metadata_props)
    return scopes[-1] if scopes else ""


def all_values(model: ir.Model) -> Iterator[ir.Value]:
    """Yield every value of a model: inputs, weights, node outputs, subgraphs and functions too."""
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs
    for function in model.functions.values():
        yield from function.inputs
        for node in function.all_nodes():
            yield from node.outputs
