"""Finds nodes by what they are, where they come from, and what stands around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.locating import all_graphs, all_nodes, parent_nodes
from shipway.graph.rewriting_text import read_pattern
from shipway.graph.standard import STANDARD_DOMAINS, is_standard
from shipway.source.origins import Origin, read_origin

__all__ = ["FoundNode", "NodeQuery", "describe_nodes", "find_nodes", "find_pattern", "origin_of"]

_DEFAULT = "ai.onnx"


@dataclass(frozen=True, slots=True)
class NodeQuery:
    """What nodes are looked for. Of each kind any may hold, and of all kinds one must.

    In the texts `*` stands for anything, `?` for one character, `[abc]` for one of some; upper and
    lower case differ.

    Args:
        types: Operators, e.g. "Conv", "Reduce*" or, with its domain, "npu::Odd".
        names: Names of nodes, e.g. "/layer1/*".
        modules: Paths of modules, e.g. "blocks.1.*": what is inside, not the module itself.
        domains: Domains; "ai.onnx" is the default one.
        values: Names of values that a node reads or computes.
    """

    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundNode:
    """A node that was found.

    Args:
        name: Its name.
        type: Its operator.
        domain: Domain of that; "" for the default one.
        inputs: Names of what it reads; "" for an optional input that is left out.
        outputs: Names of what it computes.
        origin: Where it comes from.
        place: The sub-graph or function it lies in; "" for the main graph.
    """

    name: str
    type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: Origin
    place: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "type": self.type,
            "domain": self.domain,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            **self.origin.to_json(),
            "place": self.place,
        }


def find_nodes(
    model: ir.Model,
    query: NodeQuery = NodeQuery(),
    *,
    origins: Mapping[str, Origin] | None = None,
) -> list[ir.Node]:
    """Return the nodes a query is about, those in sub-graphs and functions too.

    Args:
        model: The model.
        query: What is looked for; every node if it asks for nothing.
        origins: By value: where the node that computes it comes from, e.g. from a name map; goes
            before what is found on the node itself.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text(
        ...     '<ir_version: 8, opset_import: ["": 17]> '
        ...     "g (float[2] x) => (y) {[a_relu] a = Relu(x) [b_neg] y = Neg(a)}"
        ... )
        >>> [node.name for node in find_nodes(model, NodeQuery(names=("a_*",)))]
        ['a_relu']
        >>> [node.name for node in find_nodes(model, NodeQuery(values=("a",)))]
        ['a_relu', 'b_neg']
    """
    return [node for node in all_nodes(model) if _is_meant(node, query, origins or {})]


def _is_meant(node: ir.Node, query: NodeQuery, origins: Mapping[str, Origin]) -> bool:
    domain = _DEFAULT if is_standard(node) else node.domain
    values = [one.name for one in (*node.inputs, *node.outputs) if one is not None and one.name]
    return (
        _matches((node.op_type, f"{domain}::{node.op_type}"), query.types)
        and _matches((node.name or "",), query.names)
        and _matches((domain,), tuple(map(_long, query.domains)))
        and _matches(values, query.values)
        and (not query.modules or _matches((origin_of(node, origins).module,), query.modules))
    )


def _matches(texts: Sequence[str], patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(text, one) for text in texts for one in patterns)


def _long(domain: str) -> str:
    return _DEFAULT if domain in STANDARD_DOMAINS else domain


def origin_of(node: ir.Node, origins: Mapping[str, Origin]) -> Origin:
    """Return where a node comes from, by a name map first, else by what is found on it."""
    known = (origins[one.name] for one in node.outputs if one.name and one.name in origins)
    return next(known, None) or read_origin(node.name or "", node.metadata_props)


def find_pattern(
    model: ir.Model, pattern: Callable[..., Any] | str, *, commute: bool = False
) -> list[tuple[ir.Node, ...]]:
    """Return every occurrence of a pattern of nodes, inside If, Loop and functions too.

    Matches are what `rewrite` looks for, but those too whose inner values somebody else reads, which
    it would leave alone.

    Args:
        model: The model.
        pattern: As for `rewrite`.
        commute: Match Add, Mul and the like with swapped inputs too.

    Returns:
        The nodes of each occurrence, in the order of the graph; occurrences may overlap.

    Raises:
        UsageError: The pattern cannot be read.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text(
        ...     '<ir_version: 8, opset_import: ["": 17]> '
        ...     "g (float[2] x) => (y) {a = Relu(x) y = Neg(a)}"
        ... )
        >>> [
        ...     [node.op_type for node in one]
        ...     for one in find_pattern(model, "b = Relu(a); c = Neg(b)")
        ... ]
        [['Relu', 'Neg']]
    """
    matchers = _matchers(pattern, commute=commute)
    found: dict[tuple[ir.Node, ...], None] = {}
    for graph in all_graphs(model):
        order = {node: index for index, node in enumerate(graph)}
        for node in graph:
            for matcher in matchers:
                match = matcher.match(model, graph, node, check_nodes_are_removable=False)
                if match:
                    nodes = sorted(set(match.nodes), key=lambda one: order.get(one, -1))
                    found[tuple(nodes)] = None
    return list(found)


def _matchers(pattern: Callable[..., Any] | str, *, commute: bool) -> list[Any]:
    from onnxscript.rewriter import RewriteRule

    make = read_pattern(pattern) if isinstance(pattern, str) else pattern
    try:
        rule = RewriteRule(make, lambda op, **_: op)  # its replacement is never asked for
        return list(rule.commute()) if commute else [rule]
    except (ValueError, TypeError) as error:
        raise UsageError(f"The pattern cannot be used: {error}") from error


def describe_nodes(
    model: ir.Model, nodes: Sequence[ir.Node], *, origins: Mapping[str, Origin] | None = None
) -> list[FoundNode]:
    """Describe nodes of a model.

    Args:
        model: The model.
        nodes: Some of its nodes.
        origins: As for `find_nodes`.
    """
    places = dict(_places(model))
    return [
        FoundNode(
            node.name or "",
            node.op_type,
            node.domain,
            tuple("" if one is None else one.name or "" for one in node.inputs),
            tuple(one.name or "" for one in node.outputs),
            origin_of(node, origins or {}),
            places.get(node.graph, ""),
        )
        for node in nodes
    ]


def _places(model: ir.Model) -> Iterator[tuple[ir.Graph | ir.Function | None, str]]:
    """Yield the sub-graphs and bodies of functions, and what to call them."""
    for graph, node in parent_nodes(model).items():
        owner = node.name or next((one.name for one in node.outputs if one.name), "")
        yield graph, f"{graph.name} of {node.op_type} '{owner}'"
    for function in model.functions.values():
        yield function.graph, f"function {function.domain}::{function.name}"
