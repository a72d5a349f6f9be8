"""One of two graphs that are compared: its nodes, who reads what, and keys of where nodes stand."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import onnx_ir as ir

from shipway.graph.diffing.labels import Labeler, is_constant_node, tensor_of
from shipway.graph.functions import read_by
from shipway.graph.locating import subgraphs_of

__all__ = ["Keys", "Side"]

_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


class Keys:
    """Numbers for keys: equal keys have equal numbers, and no others have."""

    def __init__(self) -> None:
        """Begin with none."""
        self._numbers: dict[Hashable, int] = {}

    def of(self, key: Hashable) -> int:
        """Return the number of a key."""
        return self._numbers.setdefault(key, len(self._numbers))


class Side:
    """A graph before or after; Constants count as weights, not as nodes.

    Args:
        graph: The graph, its nodes sorted.
        number: 0 before, 1 after.
        labeler: Says what nodes are.
        keys: Numbers, shared by both sides.
        starts: What stands for a value that is followed from: the same for partners.
        ends: A key for each output of the graph, the same for partners.
    """

    def __init__(
        self,
        graph: ir.Graph,
        number: int,
        labeler: Labeler,
        keys: Keys,
        starts: Mapping[ir.Value, ir.Value],
        ends: Sequence[Hashable],
    ) -> None:
        """Number every node from the inputs on, and from the outputs back."""
        self.graph = graph
        self._starts = starts
        self.nodes = [node for node in graph if not is_constant_node(node)]
        self.place = {node: index for index, node in enumerate(self.nodes)}
        self.operators = [Labeler.operator(node) for node in self.nodes]
        self.labels = [keys.of(labeler.label(node, number)) for node in self.nodes]
        self.reads = [self._reads(node) for node in self.nodes]
        self.readers: dict[ir.Value, list[tuple[int, int]]] = {}
        for index, values in enumerate(self.reads):
            for slot, value in enumerate(values):
                if value is not None:
                    self.readers.setdefault(value, []).append((index, slot))
        self.forward = self._number_forward(keys)
        self.backward = self._number_backward(keys, ends)

    def _reads(self, node: ir.Node) -> Sequence[ir.Value | None]:
        """Return the inputs of a node, then what its sub-graphs read from outside of them."""
        if not any(attribute.type in _GRAPHS for attribute in node.attributes.values()):
            return node.inputs
        inside = {one for graph in subgraphs_of(node) for one in (graph, *graph.subgraphs())}
        outer = [value for value in read_by(node) if value.graph not in inside]
        return (*node.inputs, *(one for one in dict.fromkeys(outer) if one not in node.inputs))

    def start(self, value: ir.Value) -> ir.Value:
        """Return what stands for a value from outside: the same for partners."""
        return self._starts.get(value, value)

    def maker(self, value: ir.Value | None) -> int | None:
        """Return the place of the node that computes a value."""
        node = None if value is None else value.producer()
        return None if node is None else self.place.get(node)

    def _number_forward(self, keys: Keys) -> list[int]:
        found: list[int] = []
        known: dict[ir.Value, int] = {}
        for node, label, reads in zip(self.nodes, self.labels, self.reads, strict=True):
            sources = []
            for value in reads:
                if value is None or (value not in known and tensor_of(value) is not None):
                    sources.append(-1)  # what a weight is, the label says
                elif value in known:
                    sources.append(known[value])
                else:
                    sources.append(keys.of(("start", self.start(value))))
            own = keys.of(("forward", label, tuple(sources)))
            found.append(own)
            for index, value in enumerate(node.outputs):
                start = self._starts.get(value)
                key = ("output", own, index) if start is None else ("start", start)
                known[value] = keys.of(key)
        return found

    def _number_backward(self, keys: Keys, ends: Sequence[Hashable]) -> list[int]:
        found = [0] * len(self.nodes)
        ends_of: dict[ir.Value, list[int]] = {}
        for value, end in zip(self.graph.outputs, ends, strict=True):
            ends_of.setdefault(value, []).append(keys.of(("end", end)))
        for index in range(len(self.nodes) - 1, -1, -1):
            uses = []
            for position, value in enumerate(self.nodes[index].outputs):
                readers = self.readers.get(value, ())
                uses += [(position, found[reader], slot) for reader, slot in readers]
                uses += [(position, end, -1) for end in ends_of.get(value, ())]
            found[index] = keys.of(("backward", self.labels[index], tuple(sorted(uses))))
        return found
