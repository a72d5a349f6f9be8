"""Pairs the inputs and outputs of two graphs, and compares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from shipway.graph.diffing.nodes import compare_notes, operator_name
from shipway.graph.diffing.results import Detail, Kind, write_both
from shipway.graph.signing import describe_value

__all__ = ["Ends", "compare_ends", "compare_sources"]

Pairs = list[tuple[ir.Value, ir.Value]]
Names = dict[str | None, ir.Value]


@dataclass(frozen=True, slots=True)
class Ends:
    """What belongs together at the ends of two graphs.

    Args:
        inputs: Inputs of both.
        outputs: Outputs of both.
        cuts: Values inside one graph and the inputs of the other, a part, that stand for them.
    """

    inputs: Pairs
    outputs: Pairs
    cuts: Pairs

    @property
    def starts(self) -> Pairs:
        """Everything from which nodes are followed."""
        return [*self.inputs, *self.cuts]

    @classmethod
    def by_position(cls, before: ir.Graph, after: ir.Graph) -> Ends:
        """Pair the ends of graphs inside nodes, and of functions."""
        inputs = list(zip(before.inputs, after.inputs, strict=False))
        return cls(inputs, list(zip(before.outputs, after.outputs, strict=False)), [])

    @classmethod
    def by_name(
        cls,
        before: ir.Graph,
        after: ir.Graph,
        inputs: tuple[Sequence[ir.Value], Sequence[ir.Value]],
    ) -> Ends:
        """Pair the ends of main graphs; where names differ, in order.

        An input whose name is that of a value inside the other graph is where a part was cut out,
        and no new name; then the same goes for outputs.
        """
        inside = _inside(before), _inside(after)
        cuts = [(inside[0][one.name], one) for one in inputs[1] if one.name in inside[0]]
        cuts += [(one, inside[1][one.name]) for one in inputs[0] if one.name in inside[1]]
        known = inside if cuts else (Names(), Names())
        outputs = _pair(before.outputs, after.outputs, *known)
        return cls(_pair(*inputs, *inside), outputs, cuts)


def _inside(graph: ir.Graph) -> Names:
    """Return what nodes compute, by name; mere numbers say nothing, as every exporter has them."""
    values = (value for node in graph for value in node.outputs)
    return {value.name: value for value in values if value.name and not value.name.isdigit()}


def _pair(
    before: Sequence[ir.Value],
    after: Sequence[ir.Value],
    inside_before: Names,
    inside_after: Names,
) -> Pairs:
    others = {value.name: value for value in after}
    pairs = {one: others[one.name] for one in before if one.name in others}
    used = set(pairs.values())
    rest = [one for one in before if one not in pairs and one.name not in inside_after]
    free = [one for one in after if one not in used and one.name not in inside_before]
    if len(rest) == len(free):
        pairs.update(zip(rest, free, strict=True))
    return list(pairs.items())


def compare_ends(
    what: str, before: Sequence[ir.Value], after: Sequence[ir.Value], pairs: Pairs, kind: Kind
) -> Iterator[Detail]:
    """Return what differs between inputs or outputs; `kind` is what their names matter to."""
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
        if what == "input" and one.is_initializer() != other.is_initializer():
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


def compare_sources(ends: Pairs, partners: Mapping[ir.Value, ir.Value]) -> Iterator[Detail]:
    """Return outputs that other nodes compute."""
    for one, other in ends:
        if partners.get(one) is not other:
            texts = (_source(one), _source(other))
            note = "of another node" if texts[0] == texts[1] else ""
            yield Detail(f"output {one.name} computed by", *texts, note=note)


def _source(value: ir.Value) -> str:
    node = value.producer()
    return "no node" if node is None else f"{operator_name(node)} '{node.name or ''}'"
