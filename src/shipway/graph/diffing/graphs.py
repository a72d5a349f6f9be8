"""Compares two graphs, and the sub-graphs of their nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from shipway.graph.diffing.aligning import align_nodes
from shipway.graph.diffing.labels import Labeler
from shipway.graph.diffing.nodes import (
    GRAPH_KINDS,
    compare_nodes,
    compare_notes,
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
    write_both,
)
from shipway.graph.diffing.side import Keys, Side
from shipway.graph.diffing.weights import compare_weights, pair_weights
from shipway.graph.signing import describe_value

__all__ = ["compare_graphs"]

Partners = dict[ir.Value, ir.Value]
Pairs = list[tuple[ir.Value, ir.Value]]


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
    starts = _pair(*inputs, by_name=by_name)
    ends = _pair(before.outputs, after.outputs, by_name=by_name)
    partners.update(starts)
    keys = Keys()
    sides = (
        Side(before, 0, labeler, keys, partners, _end_keys(before.outputs, ends, 0)),
        Side(after, 1, labeler, keys, {}, _end_keys(after.outputs, ends, 1)),
    )
    pairs = align_nodes(*sides, starts, ends)
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
            *_compare_ends("input", *inputs, starts, kind),
            *_compare_ends("output", before.outputs, after.outputs, ends, kind),
            *_compare_sources(ends, partners),
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


def _pair(before: Sequence[ir.Value], after: Sequence[ir.Value], *, by_name: bool) -> Pairs:
    """Pair inputs or outputs: by name where that counts, the rest in order."""
    if not by_name:
        return list(zip(before, after, strict=False))
    others = {value.name: value for value in after}
    pairs = {one: others[one.name] for one in before if one.name in others}
    used = set(pairs.values())
    rest = [one for one in before if one not in pairs]
    free = [one for one in after if one not in used]
    if len(rest) == len(free):
        pairs.update(zip(rest, free, strict=True))
    return list(pairs.items())


def _end_keys(outputs: Sequence[ir.Value], pairs: Pairs, side: int) -> list[tuple[int, int]]:
    """Return a key for each output, the same for partners."""
    numbers = {pair[side]: (2, index) for index, pair in enumerate(pairs)}
    return [numbers.get(value, (side, index)) for index, value in enumerate(outputs)]


def _compare_ends(
    what: str, before: Sequence[ir.Value], after: Sequence[ir.Value], pairs: Pairs, kind: Kind
) -> Iterator[Detail]:
    partners, backward = dict(pairs), {other: one for one, other in pairs}
    for one in before:
        other = partners.get(one)
        label = f"{what} {one.name}"
        if other is None:
            yield Detail(label, _type(one), None)
            continue
        if one.name != other.name:
            yield Detail(label, one.name, other.name, kind)
        if _type(one) != _type(other):
            # Of what lies inside, a declared shape binds nobody.
            yield Detail(label, _type(one), _type(other), _type_kind(one, other, kind))
        if one.is_initializer() != other.is_initializer():
            yield Detail(label, *write_both(_default, one, other))
        for note in compare_notes(one, other):
            yield Detail(f"{label}, {note.what}", note.before, note.after, note.kind)
    for other in after:
        if other not in backward:
            yield Detail(f"{what} {other.name}", None, _type(other))
    orders = (
        [one for one in before if one in partners],
        [backward[other] for other in after if other in backward],
    )
    if orders[0] != orders[1]:
        yield Detail(f"order of {what}s", *write_both(_list, *orders))


def _type_kind(before: ir.Value, after: ir.Value, kind: Kind) -> Kind:
    return "computation" if kind == "computation" or before.type != after.type else "annotation"


def _default(value: ir.Value) -> str:
    return "optional" if value.is_initializer() else "required"


def _list(values: Sequence[ir.Value]) -> str:
    return ", ".join(str(one.name) for one in values)


def _type(value: ir.Value) -> str:
    return describe_value(value).removeprefix(f"{value.name}:")


def _compare_sources(ends: Pairs, partners: Mapping[ir.Value, ir.Value]) -> Iterator[Detail]:
    for one, other in ends:
        if partners.get(one) is not other:
            texts = (_source(one), _source(other))
            note = "of another node" if texts[0] == texts[1] else ""
            yield Detail(f"output {one.name} computed by", *texts, note=note)


def _source(value: ir.Value) -> str:
    node = value.producer()
    return "no node" if node is None else f"{operator_name(node)} '{node.name or ''}'"


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
