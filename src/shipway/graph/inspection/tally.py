"""Counts the arithmetic of a whole model: every node once for each time it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from shipway.graph.facts.dims import Dim, Poly, add, multiply
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.facts.registry import Call
from shipway.graph.inspection.flops import FREE, RULES, Cost, Uncountable, is_known
from shipway.graph.inspection.learning import learn_graph
from shipway.graph.inspection.preparing import prepare
from shipway.graph.locating import subgraphs_of
from shipway.graph.standard import is_standard

__all__ = ["Gap", "OperatorKey", "Share", "Tally", "size_rank", "tally_model", "total"]

OperatorKey = tuple[str, str]
_SUBGRAPH_OPERATORS = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True, slots=True)
class Gap:
    """Nodes that could not be counted, and why.

    Args:
        reason: Why.
        count: How many.
        example: Name of the first, or of what it computes.
    """

    reason: str
    count: int
    example: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"reason": self.reason, "count": self.count, "example": self.example}


@dataclass(frozen=True, slots=True)
class Share:
    """What the nodes of one operator are of the whole.

    Args:
        macs: Multiply-adds.
        flops: FLOPs, two of each multiply-add among them.
        counted: Nodes that could be counted.
        nodes: All nodes, functions opened.
    """

    macs: Dim = 0
    flops: Dim = 0
    counted: int = 0
    nodes: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """The arithmetic of a model.

    Args:
        shares: By type and domain of the operator.
        gaps: What could not be counted, the most frequent first.
        notes: What was assumed.
        shapes: Shape of each input and output, as far as known.
    """

    shares: Mapping[OperatorKey, Share]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]
    shapes: Mapping[str, tuple[Dim, ...] | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One node: what it costs, or why nobody knows; and how often it runs."""

    node: ir.Node
    cost: Cost
    reason: str
    times: Dim


def tally_model(model: ir.Model, sizes: Mapping[str, int]) -> Tally:
    """Count the arithmetic of a model, which is changed by it.

    Where it names no opset of ONNX's own, the newest is taken.

    Args:
        model: A copy, its nodes sorted.
        sizes: Sizes of dynamic dimensions.

    Raises:
        UsageError: The model has no dimension of that name.
    """
    import onnx

    notes = prepare(model, sizes)
    model.functions.clear()  # those that could not be opened: nothing is known of them
    knowledge = Knowledge.of_model(model)
    knowledge.opsets.setdefault("", onnx.defs.onnx_opset_version())
    _learn_unread(model, knowledge)
    learn_graph(model.graph, knowledge)
    counter = _Counter(knowledge)
    entries = list(counter.entries_of(model.graph, 1))
    ports = (*model.graph.inputs, *model.graph.outputs)
    return Tally(
        _shares(entries),
        _gaps(entries),
        (*notes, *dict.fromkeys(counter.notes)),
        {value.name or "": knowledge.fact(value).shape for value in ports},
    )


def _learn_unread(model: ir.Model, knowledge: Knowledge) -> None:
    """Note the shapes of weights whose numbers are absent, sparse or texts."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and not knowledge.is_constant(value):
                knowledge.learn(value, Fact(tensor.dtype, tuple(map(int, tensor.shape.numpy()))))


def _shares(entries: list[_Entry]) -> dict[OperatorKey, Share]:
    found: dict[OperatorKey, Share] = {}
    for entry in entries:
        key = (entry.node.op_type, entry.node.domain)
        old = found.get(key, Share())
        found[key] = Share(
            add(old.macs, multiply(entry.cost.macs, entry.times)),
            add(old.flops, multiply(entry.cost.flops, entry.times)),
            old.counted + (not entry.reason),
            old.nodes + 1,
        )
    return found


def _gaps(entries: list[_Entry]) -> tuple[Gap, ...]:
    missed = [entry for entry in entries if entry.reason]
    first: dict[str, str] = {}
    for entry in missed:
        first.setdefault(entry.reason, _label(entry.node))
    counts = Counter(entry.reason for entry in missed).most_common()
    return tuple(Gap(reason, count, first[reason]) for reason, count in counts)


def _label(node: ir.Node) -> str:
    return node.name or next((one.name for one in node.outputs if one.name), "") or node.op_type


class _Counter:
    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._causes: dict[ir.Value, str] = {}
        self.notes: list[str] = []

    def entries_of(self, graph: ir.Graph, times: Dim) -> Iterator[_Entry]:
        for node in graph:
            if is_standard(node) and node.op_type in _SUBGRAPH_OPERATORS:
                yield _Entry(node, Cost(), "", times)
                yield from self._inside(node, times)
            else:
                yield self._entry(node, times)

    def _entry(self, node: ir.Node, times: Dim) -> _Entry:
        rule = RULES.get(node.op_type) if is_standard(node) else None
        if rule is None:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            return _Entry(node, Cost(), f"there is no rule for {name}", times)
        facts = [self._knowledge.fact(value) for value in node.inputs]
        try:
            cost = rule(Call(node, node.inputs, facts, self._knowledge))
        except Uncountable as gap:
            reason = gap.reason
            if gap.value is not None:
                reason = self._causes.get(gap.value) or self._cause(gap.value)
            return _Entry(node, Cost(), reason, times)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return _Entry(node, Cost(), f"it is no valid {node.op_type}", times)
        if not is_known((times,)) and node.op_type not in FREE:
            return _Entry(node, Cost(), "nobody knows how often its loop runs", times)
        return _Entry(node, cost, "", times)

    def _cause(self, value: ir.Value) -> str:
        """Say from where on sizes are unknown: walk back to a node that knew those it reads."""
        trail: dict[ir.Value, None] = {}
        reason = ""
        while not reason:
            trail[value] = None
            node = value.producer()
            read = () if node is None else (one for one in node.inputs if one is not None)
            before = next((one for one in read if not self._is_known(one)), None)
            if before is not None and before in self._causes:
                reason = self._causes[before]
            elif before is not None and before not in trail:
                value = before
            elif node is not None:
                reason = f"sizes are unknown from {node.op_type} '{_label(node)}' on"
            else:
                reason = f"sizes are unknown from '{value.name}' on"
        self._causes.update(dict.fromkeys(trail, reason))
        return reason

    def _is_known(self, value: ir.Value) -> bool:
        return is_known(self._knowledge.fact(value).shape)

    def _inside(self, node: ir.Node, times: Dim) -> Iterator[_Entry]:
        if node.op_type == "If":
            branches = [list(self.entries_of(graph, times)) for graph in subgraphs_of(node)]
            if len(branches) > 1:
                self.notes.append("Of each If, the branch with more FLOPs is counted.")
            yield from max(branches, key=_flops_of, default=[])
            return
        rounds = self._rounds(node)
        if rounds is None or not is_known((rounds,)):
            self.notes.append(
                f"Nobody knows how often {node.op_type} '{_label(node)}' runs: counted once."
            )
            rounds = 1
        for graph in subgraphs_of(node):
            yield from self.entries_of(graph, multiply(times, rounds))

    def _rounds(self, node: ir.Node) -> Dim | None:
        """Return how often a body runs, at most."""
        if node.op_type == "Loop":
            content = self._knowledge.fact(node.inputs[0]).content if node.inputs else None
            return content[0] if content else None
        count = node.attributes.get_int("num_scan_inputs", 0) or 0
        fact = self._knowledge.fact(node.inputs[-count]) if 0 < count <= len(node.inputs) else None
        axes = node.attributes.get_ints("scan_input_axes", (0,)) or (0,)
        shape = None if fact is None else fact.shape
        return shape[axes[0]] if shape and axes[0] < len(shape) else None


def _flops_of(entries: list[_Entry]) -> int:
    return sum(size_rank(multiply(entry.cost.flops, entry.times)) for entry in entries)


def size_rank(dim: Dim) -> int:
    """Return a number to compare amounts by: every dynamic dimension is taken as 1."""
    return sum(dim.terms.values()) if isinstance(dim, Poly) else dim


def total(dims: Iterable[Dim]) -> Dim:
    """Return the sum of amounts that may depend on dynamic dimensions."""
    found: Dim = 0
    for dim in dims:
        found = add(found, dim)
    return found
