"""Finds for each node of a graph the node of another that does its work there.

Structure goes first: what a node is and all it is computed from, and all that is computed from it.
Then names, then what exporters note in metadata, then the order of what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import SequenceMatcher

import onnx_ir as ir

from shipway.graph.diffing.side import Keys, Side

__all__ = ["align_nodes"]

_NOTES = ("pkg.torch.onnx.fx_node", "pkg.torch.onnx.name_scopes", "namespace")
_MOST_COMPARED = 2_000_000
KeyOf = Callable[[Side, int], Hashable]
"""The key of a node of a side; None for one that this step leaves out."""


Partners = Sequence[tuple[ir.Value, ir.Value]]


def align_nodes(before: Side, after: Side, starts: Partners, ends: Partners) -> dict[int, int]:
    """Return for each node before that has a partner its place after.

    Args:
        before: The graph before.
        after: The graph after.
        starts: Values from outside that belong together.
        ends: Outputs that belong together.
    """
    alignment = _Alignment(before, after, starts, ends)
    alignment.match(lambda side, index: (side.forward[index], side.backward[index]))
    alignment.match(lambda side, index: side.forward[index])
    alignment.match(lambda side, index: side.backward[index])
    alignment.spread(_label)
    for kind in (_label, _operator):
        alignment.match(_named(kind), one_to_one=True)
        alignment.match(_output_named(kind), one_to_one=True)
    alignment.spread(_operator)
    for note in _NOTES:
        alignment.match(_noted(note), one_to_one=True)
    for kind in (_label, _operator):
        alignment.match_in_order(kind)
    alignment.spread(_operator)
    alignment.match_places()
    return alignment.pairs


def _label(side: Side, index: int) -> Hashable:
    return side.labels[index]


def _operator(side: Side, index: int) -> Hashable:
    return side.operators[index]


def _named(kind: KeyOf) -> KeyOf:
    def key(side: Side, index: int) -> Hashable:
        name = side.nodes[index].name
        return (name, kind(side, index)) if name else None

    return key


def _output_named(kind: KeyOf) -> KeyOf:
    def key(side: Side, index: int) -> Hashable:
        names = tuple(value.name for value in side.nodes[index].outputs)
        return (names, kind(side, index)) if any(names) else None

    return key


def _noted(note: str) -> KeyOf:
    def key(side: Side, index: int) -> Hashable:
        text = side.nodes[index].metadata_props.get(note)
        return (text, side.operators[index]) if text else None

    return key


class _Alignment:
    """Pairs of nodes, found step by step."""

    def __init__(self, before: Side, after: Side, starts: Partners, ends: Partners) -> None:
        self._starts = starts
        self._ends = ends
        self._before = before
        self._after = after
        self._keys = Keys()
        self.pairs: dict[int, int] = {}
        self._back: dict[int, int] = {}

    def _pair(self, one: int, other: int) -> None:
        self.pairs[one] = other
        self._back[other] = one

    def _free(self, side: Side) -> list[int]:
        taken = self.pairs if side is self._before else self._back
        return [index for index in range(len(side.nodes)) if index not in taken]

    def _groups(self, side: Side, key_of: KeyOf) -> dict[Hashable, list[int]]:
        found: dict[Hashable, list[int]] = {}
        for index in self._free(side):
            key = key_of(side, index)
            if key is not None:
                found.setdefault(key, []).append(index)
        return found

    def match(self, key_of: KeyOf, *, one_to_one: bool = False) -> None:
        """Pair nodes of one key: where several have it, by name, then as many in order."""
        others = self._groups(self._after, key_of)
        for key, group in self._groups(self._before, key_of).items():
            partners = others.get(key, [])
            if len(group) == len(partners) == 1:
                self._pair(group[0], partners[0])
            elif partners and not one_to_one:
                self._match_group(group, partners)

    def _match_group(self, group: list[int], partners: list[int]) -> None:
        for name_of in (_name, _output_name):
            names = {
                name_of(self._after.nodes[one]): one for one in partners if one not in self._back
            }
            for one in group:
                name = name_of(self._before.nodes[one])
                if name and name in names and one not in self.pairs:
                    self._pair(one, names.pop(name))
        rest = [one for one in group if one not in self.pairs]
        others = [one for one in partners if one not in self._back]
        if len(rest) == len(others):
            for one, other in zip(rest, others, strict=True):
                self._pair(one, other)

    def spread(self, kind: KeyOf) -> None:
        """Pair nodes of one kind that feed, or read, the same slot of a pair."""
        pending = list(self.pairs.items())
        for start in self._starts:
            self._spread_down(*start, kind, pending)
        for end in self._ends:
            self._spread_up(*end, kind, pending)
        while pending:
            one, other = pending.pop()
            for value, partner in zip(
                self._before.reads[one], self._after.reads[other], strict=False
            ):
                self._spread_up(value, partner, kind, pending)
            outputs = zip(
                self._before.nodes[one].outputs, self._after.nodes[other].outputs, strict=False
            )
            for value, partner in outputs:
                self._spread_down(value, partner, kind, pending)

    def _spread_up(
        self,
        value: ir.Value | None,
        partner: ir.Value | None,
        kind: KeyOf,
        pending: list[tuple[int, int]],
    ) -> None:
        one, other = self._before.maker(value), self._after.maker(partner)
        if one is None or other is None or one in self.pairs or other in self._back:
            return
        assert value is not None and partner is not None  # noqa: S101, PT018 -- they have makers
        is_same = kind(self._before, one) == kind(self._after, other)
        if is_same and value.index() == partner.index():
            self._pair(one, other)
            pending.append((one, other))

    def _spread_down(
        self, value: ir.Value, partner: ir.Value, kind: KeyOf, pending: list[tuple[int, int]]
    ) -> None:
        readers: list[dict[Hashable, list[int]]] = [{}, {}]
        for side, one, taken, found in (
            (self._before, value, self.pairs, readers[0]),
            (self._after, partner, self._back, readers[1]),
        ):
            for reader, slot in side.readers.get(one, ()):
                if reader not in taken:
                    found.setdefault((slot, kind(side, reader)), []).append(reader)
        for key, group in readers[0].items():
            others = readers[1].get(key, ())
            if len(group) != 1 or len(others) != 1:
                continue
            if group[0] not in self.pairs and others[0] not in self._back:
                self._pair(group[0], others[0])
                pending.append((group[0], others[0]))

    def match_in_order(self, kind: KeyOf) -> None:
        """Pair what remains between two pairs by the longest common subsequence of kinds."""
        one, other = self._free(self._before), self._free(self._after)
        first = self._gap_keys(self._before, one, kind)
        second = self._gap_keys(self._after, other, kind)
        for start, partner, size in _common_runs(first, second):
            for offset in range(size):
                self._pair(one[start + offset], other[partner + offset])

    def _gap_keys(self, side: Side, free: Sequence[int], kind: KeyOf) -> list[int]:
        """Return a key for each free node: between which pairs it stands, and what it is."""
        wanted, found, gap = set(free), [], -1
        for index in range(len(side.nodes)):
            if index in wanted:
                found.append(self._keys.of((gap, kind(side, index))))
            else:
                gap = self.pairs[index] if side is self._before else index
        return found

    def match_places(self) -> None:
        """Pair nodes of different operators that stand between the same others."""
        slots = list(self._ends)
        for one, other in list(self.pairs.items()):
            slots += [
                (value, partner)
                for value, partner in zip(
                    self._before.reads[one], self._after.reads[other], strict=False
                )
                if value is not None and partner is not None
            ]
        for value, partner in slots:
            first, second = self._before.maker(value), self._after.maker(partner)
            if first is None or second is None or first in self.pairs or second in self._back:
                continue
            if self._share_source(first, second):
                self._pair(first, second)

    def _share_source(self, one: int, other: int) -> bool:
        """Whether the first input of two nodes is the same value."""
        reads, others = self._before.reads[one], self._after.reads[other]
        if not reads or not others or reads[0] is None or others[0] is None:
            return False
        maker, partner = self._before.maker(reads[0]), self._after.maker(others[0])
        if maker is None or partner is None:
            return self._before.start(reads[0]) is self._after.start(others[0])
        return self.pairs.get(maker) == partner and reads[0].index() == others[0].index()


def _name(node: ir.Node) -> str | None:
    return node.name


def _output_name(node: ir.Node) -> str | None:
    return node.outputs[0].name if node.outputs else None


def _common_runs(first: Sequence[int], second: Sequence[int]) -> Iterable[tuple[int, int, int]]:
    """Return where equal runs of two sequences begin, and how long they are."""
    places: dict[int, list[int]] = {}
    for index, key in enumerate(second):
        places.setdefault(key, []).append(index)
    if sum(len(places.get(key, ())) for key in first) <= _MOST_COMPARED:
        return SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    runs, rest = [], {key: iter(found) for key, found in places.items()}
    for index, key in enumerate(first):
        partner = next(rest.get(key, iter(())), None)
        if partner is not None:
            runs.append((index, partner, 1))
    return runs
