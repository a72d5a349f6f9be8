"""Compares two graphs, and the sub-graphs of their nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from shipway.graph.diffing.aligning import align_nodes
from shipway.graph.diffing.ends import Ends, compare_ends, compare_sources
from shipway.graph.diffing.labels import Labeler
from shipway.graph.diffing.nodes import (
    GRAPH_KINDS,
    compare_nodes,
    operator_name,
    status_of,
    write_node,
)
from shipway.graph.diffing.results import (
    Detail,
    GraphDifference,
    Kind,
    Line,
    NodeDifference,
)
from shipway.graph.diffing.side import Keys, Side
from shipway.graph.diffing.weights import compare_weights, pair_weights

__all__ = ["compare_graphs"]

Partners = dict[ir.Value, ir.Value]


def compare_graphs(
    before: ir.Graph,
    after: ir.Graph,
    labeler: Labeler,
    *,
    where: str = "",
    partners: Partners | None = None,
    by_name: bool = True,
    fixed_weights: tuple[bool, bool] = (False, False),
) -> Iterator[GraphDifference]:
    """Yield the difference of two graphs, then those of the sub-graphs of nodes that both have.

    Args:
        before: The graph before, its nodes sorted.
        after: The graph after, its nodes sorted.
        labeler: Says what nodes are.
        where: How the graph is called.
        partners: The value after for each value of outer graphs that has one; it grows.
        by_name: Inputs and outputs belong together by name, which matters; else by position.
        fixed_weights: Before and after: whether inputs with a default are weights alone.
    """
    partners = {} if partners is None else partners
    inputs = _inputs(before, fixed_weights[0]), _inputs(after, fixed_weights[1])
    found = Ends.by_name(before, after, inputs) if by_name else Ends.by_position(before, after)
    partners.update(found.starts)
    sides = _sides(before, after, labeler, partners, found)
    pairs = align_nodes(*sides, found.starts, found.outputs)
    for one, other in pairs.items():
        outputs = sides[0].nodes[one].outputs, sides[1].nodes[other].outputs
        partners.update(zip(*outputs, strict=False))
    partners.update(pair_weights(*sides, pairs))
    details = {
        one: compare_nodes(sides[0].nodes[one], sides[1].nodes[other], labeler, partners)
        for one, other in pairs.items()
    }
    nodes = tuple(_list_nodes(*sides, pairs, details))
    kind: Kind = "computation" if by_name else "name"
    yield GraphDifference(
        where,
        (
            *compare_ends("input", *inputs, found.inputs, kind),
            *compare_ends("output", before.outputs, after.outputs, found.outputs, kind),
            *compare_sources(found.outputs, partners),
        ),
        nodes,
        tuple(compare_weights(before, after, partners)),
        len(pairs) - sum(one.status not in {"added", "removed"} for one in nodes),
        tuple(_list_lines(*sides, pairs, details)),
    )
    for one, other in pairs.items():
        yield from _compare_inner(
            sides[0].nodes[one], sides[1].nodes[other], labeler, where, partners
        )


def _inputs(graph: ir.Graph, fixed_weights: bool) -> list[ir.Value]:
    return [one for one in graph.inputs if not (fixed_weights and one.is_initializer())]


def _compare_inner(
    before: ir.Node, after: ir.Node, labeler: Labeler, where: str, partners: Partners
) -> Iterator[GraphDifference]:
    for name, attribute in before.attributes.items():
        other = after.attributes.get(name)
        if other is None or attribute.type is not other.type or attribute.type not in GRAPH_KINDS:
            continue
        if attribute.is_ref() or other.is_ref():
            continue
        label = f"{where + '/' if where else ''}{before.name or operator_name(before)}.{name}"
        if attribute.type is ir.AttributeType.GRAPH:
            graphs = [(label, attribute.as_graph(), other.as_graph())]
        else:
            inner = zip(attribute.as_graphs(), other.as_graphs(), strict=False)
            graphs = [(f"{label}[{index}]", *pair) for index, pair in enumerate(inner)]
        for label, one, two in graphs:
            yield from compare_graphs(
                one, two, labeler, where=label, partners=partners, by_name=False
            )


def _sides(
    before: ir.Graph, after: ir.Graph, labeler: Labeler, partners: Partners, ends: Ends
) -> tuple[Side, Side]:
    keys = Keys()
    numbers = [
        {pair[side]: (2, index) for index, pair in enumerate(ends.outputs)} for side in (0, 1)
    ]
    end_keys = [
        [numbers[side].get(value, (side, index)) for index, value in enumerate(graph.outputs)]
        for side, graph in enumerate((before, after))
    ]
    same = {partner: partner for _, partner in ends.starts}
    return (
        Side(before, 0, labeler, keys, partners, end_keys[0]),
        Side(after, 1, labeler, keys, same, end_keys[1]),
    )


def _list_nodes(
    before: Side, after: Side, pairs: Mapping[int, int], details: Mapping[int, tuple[Detail, ...]]
) -> Iterator[NodeDifference]:
    for index, node in enumerate(before.nodes):
        if index not in pairs:
            yield NodeDifference("removed", node.name or "", None, operator_name(node))
        elif (status := status_of(details[index])) is not None:
            other = after.nodes[pairs[index]].name or ""
            name = operator_name(node)
            yield NodeDifference(status, node.name or "", other, name, details[index])
    taken = set(pairs.values())
    for index, node in enumerate(after.nodes):
        if index not in taken:
            yield NodeDifference("added", None, node.name or "", operator_name(node))


def _list_lines(
    before: Side, after: Side, pairs: Mapping[int, int], details: Mapping[int, tuple[Detail, ...]]
) -> Iterator[Line]:
    """Yield every node in the order of the graph after, removed ones behind what they followed."""
    back = {other: one for one, other in pairs.items()}
    shown, added = 0, list[Line]()
    for index, node in enumerate(after.nodes):
        if index not in back:
            added.append(Line("+", write_node(node)))
            continue
        one = back[index]
        yield from (*_list_removed(before, pairs, shown, one), *added)
        shown, added = max(shown, one), []
        if status_of(details[one]) == "changed":
            texts = (str(detail) for detail in details[one] if detail.kind == "computation")
            yield Line("~", write_node(node), tuple(texts))
        else:
            yield Line(" ", write_node(node))
    yield from (*_list_removed(before, pairs, shown, len(before.nodes)), *added)


def _list_removed(before: Side, pairs: Mapping[int, int], start: int, stop: int) -> Iterator[Line]:
    for index in range(start, stop):
        if index not in pairs:
            yield Line("-", write_node(before.nodes[index]))
