"""Pairs the weights of two graphs by who reads them, and compares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from shipway.graph.diffing.labels import tensor_of
from shipway.graph.diffing.numbers import digest_of, measure_gap
from shipway.graph.diffing.results import Detail
from shipway.graph.diffing.side import Side
from shipway.graph.signing import describe_tensor

__all__ = ["compare_weights", "pair_weights", "weights_of"]

Partners = dict[ir.Value, ir.Value]


def weights_of(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the initializers and Constants of a graph by name."""
    found = dict(graph.initializers.items())
    for node in graph:
        if node.op_type == "Constant" and tensor_of(node.outputs[0]) is not None:
            found[node.outputs[0].name or ""] = node.outputs[0]
    return found


def pair_weights(before: Side, after: Side, pairs: dict[int, int]) -> Partners:
    """Return for each weight before that has a partner the one after.

    Those read in the same slot of paired nodes belong together, those of one name first; what no
    pair of nodes reads goes by its name, then by its numbers.
    """
    own, other = weights_of(before.graph), weights_of(after.graph)
    taken = set(own.values()), set(other.values())
    read = [
        (value, partner)
        for value, partner in _read_together(before, after, pairs)
        if value in taken[0] and partner in taken[1]
    ]
    found: Partners = {}
    used: set[ir.Value] = set()
    named = [(value, partner) for value, partner in read if value.name == partner.name]
    rest = [(value, other[name]) for name, value in own.items() if name in other]
    for value, partner in (*named, *read, *rest):
        if value not in found and partner not in used:
            found[value] = partner
            used.add(partner)
    left = [one for one in own.values() if one not in found]
    return found | _pair_by_numbers(left, [one for one in other.values() if one not in used])


def _pair_by_numbers(before: Sequence[ir.Value], after: Sequence[ir.Value]) -> Partners:
    common = {_describe(one) for one in before} & {_describe(one) for one in after}
    places: dict[str, list[ir.Value]] = {}
    for value in reversed(after):
        if _describe(value) in common:
            places.setdefault(_digest(value), []).append(value)
    found: Partners = {}
    for value in before:
        same = places.get(_digest(value)) if _describe(value) in common else None
        if same:
            found[value] = same.pop()
    return found


def _digest(value: ir.Value) -> str:
    tensor = tensor_of(value)
    return "" if tensor is None else digest_of(tensor)


def _read_together(
    before: Side, after: Side, pairs: dict[int, int]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    for one, other in pairs.items():
        for value, partner in zip(before.reads[one], after.reads[other], strict=False):
            if value is not None and partner is not None:
                yield value, partner
    for value, partner in zip(before.graph.outputs, after.graph.outputs, strict=False):
        yield value, partner


def compare_weights(before: ir.Graph, after: ir.Graph, partners: Partners) -> list[Detail]:
    """Return what differs between the weights of two graphs."""
    own, other = weights_of(before), weights_of(after)
    found = []
    for value in own.values():
        partner = partners.get(value)
        if partner is None:
            found.append(Detail(f"weight {value.name}", _describe(value), None))
        else:
            found += _compare(value, partner)
    used = set(partners.values())
    added = (value for value in other.values() if value not in used)
    return [*found, *(Detail(f"weight {one.name}", None, _describe(one)) for one in added)]


def _compare(value: ir.Value, partner: ir.Value) -> Iterable[Detail]:
    one, other = tensor_of(value), tensor_of(partner)
    if one is None or other is None:
        return
    what = f"weight {value.name}"
    if value.name != partner.name:
        yield Detail(what, value.name, partner.name, "name")
    if _describe(value) != _describe(partner):
        yield Detail(what, _describe(value), _describe(partner))
    elif (gap := measure_gap(one, other)) is not None:
        yield Detail(what, _describe(value), _describe(partner), gap=gap)
    if _place(value) != _place(partner):
        yield Detail(what, _place(value), _place(partner), "annotation")


def _describe(value: ir.Value) -> str:
    tensor = tensor_of(value)
    return "" if tensor is None else describe_tensor(tensor)


def _place(value: ir.Value) -> str:
    return "an initializer" if value.is_initializer() else "a Constant"
