"""Carries out what rules propose: names, metadata and the journal are kept here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import onnx_ir as ir

from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.growth import growth_of
from shipway.graph.journal import Journal
from shipway.graph.locating import subgraphs_of
from shipway.graph.results import Change
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["UNREAD", "Applier", "drop_unread_initializers", "is_read"]

UNREAD = Rule(
    "remove_unread_nodes",
    "exact",
    "Removes nodes whose outputs nobody reads; custom ones only where they are declared pure.",
    (),
    lambda _node, _view: None,
)


class Applier:
    """Applies rewrites to a body until the journal is full.

    Args:
        view: The body.
        journal: Where changes are noted.
        function: Name of the function whose body it is; "" for the main graph.
    """

    def __init__(self, view: View, journal: Journal, function: str = "") -> None:
        """Begin with nothing touched."""
        self.view = view
        self.touched: set[ir.Node] = set()
        self._journal = journal
        self._function = function

    @property
    def is_done(self) -> bool:
        """Whether no further change may be made."""
        return self._journal.is_done

    def apply(self, rule: Rule, node: ir.Node, rewrite: Rewrite) -> bool:
        """Carry out a rewrite; say whether it changed anything."""
        if self.is_done or not self._is_worthwhile(node, rewrite):
            return False
        orphans = [value for value in node.inputs if value is not None]
        label, alias = node.name or "", {}
        into = _names(node)
        for index, value in rewrite.operands.items():
            node.replace_input_with(index, value)
        if rewrite.values:
            alias = self._exchange(node, rewrite)
            self._remove(node)
        gone = (*alias, *self._prune(orphans))
        self._log(Change(rule.name, rule.kind, label, node.op_type, gone, alias, into))
        self._touch((*orphans, *rewrite.values, *rewrite.operands.values(), *node.outputs))
        return True

    def apply_all(self, rule: Rule, steps: Sequence[tuple[ir.Node, Rewrite]]) -> bool:
        """Carry out several rewrites as one change, from the last node back to the first.

        An output that gets no value must not be read any more by then.
        """
        if self.is_done or not steps:
            return False
        alias: dict[str, str] = {}
        orphans: list[ir.Value | None] = []
        gone: list[str] = []
        first = steps[0][0]
        label, op_type = first.name or "", first.op_type
        into = tuple(
            name
            for node, rewrite in steps
            for name, value in zip(_names(node), rewrite.values, strict=False)
            if value is not None
        )
        for node, rewrite in reversed(steps):
            orphans += node.inputs
            alias |= self._exchange(node, rewrite)
            unread = zip(node.outputs, rewrite.values, strict=True)
            gone += [output.name for output, value in unread if value is None and output.name]
            self._remove(node)
        gone += self._prune([value for value in orphans if value is not None])
        self._log(Change(rule.name, rule.kind, label, op_type, (*alias, *gone), alias, into))
        for _, rewrite in steps:
            self._touch((*rewrite.values, *(one for node in rewrite.nodes for one in node.outputs)))
        self._touch(orphans)
        return True

    def redirect(self, rule: Rule, old: ir.Value, value: ir.Value) -> bool:
        """Let one output of a node be read elsewhere; the node stays while others are read."""
        node = old.producer()
        if self.is_done or node is None:
            return False
        label, orphans, into = node.name or "", list(node.inputs), _names(node)
        alias = self._redirect(node, old, value)
        removed = [] if is_read(node) else self._prune([old])
        removed += self._prune([one for one in orphans if one is not None])
        gone = (*alias, *removed)
        self._log(Change(rule.name, rule.kind, label, node.op_type, gone, alias, into))
        self._touch((*orphans, value))
        return True

    def _is_worthwhile(self, node: ir.Node, rewrite: Rewrite) -> bool:
        """An Identity that renames an input into an output must stay: nothing is simpler.

        Nor is what needs more nodes: rules reckon with initializers, which are nodes in a function.
        """
        if self.view.constants_are_nodes and growth_of(node, rewrite, self.view) > 0:
            return False
        if rewrite.nodes or not rewrite.values or node.op_type != "Identity":
            return True
        output, value = node.outputs[0], rewrite.values[0]
        return not output.is_graph_output() or (
            value is not None and self._can_be_output(value, node.graph)
        )

    def _touch(self, values: Iterable[ir.Value | None]) -> None:
        """Remember who stands next to a change: there other rules may fit now."""
        for value in values:
            if value is None:
                continue
            self.touched.update(use.node for use in value.uses())
            producer = value.producer()
            if producer is not None:
                self.touched.add(producer)
                self.touched.update(
                    above for one in producer.inputs if one and (above := one.producer())
                )

    def _log(self, change: Change) -> None:
        self._journal.note(replace(change, function=self._function))

    def _exchange(self, node: ir.Node, rewrite: Rewrite) -> dict[str, str]:
        graph = node.graph
        assert graph is not None  # noqa: S101 -- rules only see nodes that are in a graph
        made = {value for new in rewrite.nodes for value in new.outputs}
        alike = [new for new in rewrite.nodes if new.op_type == node.op_type]
        heir = next(reversed(alike or rewrite.nodes), None)
        for position, new in enumerate(rewrite.nodes):
            self._adopt(node, new, position, is_heir=new is heir)
        graph.insert_before(node, rewrite.nodes)
        alias: dict[str, str] = {}
        for output, value in zip(node.outputs, rewrite.values, strict=True):
            if value is None:
                continue
            if value in made:
                self._take_name(output, value)
            else:
                alias |= self._redirect(node, output, value)
        return alias

    def _adopt(self, node: ir.Node, new: ir.Node, position: int, *, is_heir: bool) -> None:
        """Give a new node the metadata of the one it replaces, and its name to the heir."""
        self.view.spare_bytes -= _size_bytes(node)
        if new.name is None and node.name:
            new.name = node.name if is_heir else self.view.unique_name(f"{node.name}_{position}")
        new.metadata_props.update({**node.metadata_props, **new.metadata_props})
        new.doc_string = new.doc_string or node.doc_string
        for value in new.outputs:
            if value.name is None:
                value.name = self.view.unique_name(f"{node.outputs[0].name}_{position}")

    def _take_name(self, old: ir.Value, new: ir.Value) -> None:
        """Let a new value stand in everywhere for an old one, under its name."""
        new.type, new.shape = old.type, old.shape
        new.metadata_props.update(old.metadata_props)
        new.doc_string = old.doc_string
        name = old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=old.is_graph_output())
        old.name = self.view.unique_name(f"{name}_before")
        new.name = name

    def _redirect(self, node: ir.Node, old: ir.Value, value: ir.Value) -> dict[str, str]:
        """Let an existing value stand in for an old one; say which name leads to which."""
        if not old.is_graph_output():
            ir.convenience.replace_all_uses_with(old, value)
            return {old.name: value.name} if old.name and value.name else {}
        if self._can_be_output(value, node.graph):
            former = value.name
            self._take_output_name(old, value)
            return {former: value.name} if former and value.name else {}
        copy = self.view.node("Identity", [value])
        self._adopt(node, copy, 0, is_heir=True)
        assert node.graph is not None  # noqa: S101 -- rules only see nodes that are in a graph
        node.graph.insert_before(node, copy)
        self._take_name(old, copy.outputs[0])
        self.view.knowledge.learn(copy.outputs[0], self.view.fact(value))
        return {}

    def _take_output_name(self, old: ir.Value, value: ir.Value) -> None:
        """Make an existing value the graph's output: the caller's name wins."""
        name = old.name
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        old.name = self.view.unique_name(f"{name}_before")
        value.type = value.type if old.type is None else old.type
        value.shape = value.shape if old.shape is None else old.shape
        value.name = name

    def _can_be_output(self, value: ir.Value, graph: object) -> bool:
        """Whether a value can take the name of an output: a node of the same graph computes it."""
        producer = value.producer()
        if producer is None or value.is_graph_output():
            return False
        return producer.graph is graph

    def _remove(self, node: ir.Node) -> None:
        for output in node.outputs:
            self.view.forget_constant(output)
            self.view.knowledge.forget(output)
        self.view.spare_bytes += _size_bytes(node)
        _release(node)
        assert node.graph is not None  # noqa: S101 -- rules only see nodes that are in a graph
        node.graph.remove(node, safe=True)

    def _prune(self, values: Iterable[ir.Value]) -> list[str]:
        """Remove nodes that nobody reads any more, and return the names of their outputs."""
        removed: list[str] = []
        pending = list(values)
        while pending:
            producer = pending.pop().producer()
            if producer is None or producer.graph is None or is_read(producer):
                continue
            if not self.view.library.may_go(producer):
                continue
            removed += [output.name for output in producer.outputs if output.name]
            pending += [value for value in producer.inputs if value is not None]
            self._remove(producer)
        return removed

    def remove_unread(self, graph: ir.Graph) -> None:
        """Remove nodes nobody reads, from the last one back."""
        for node in reversed(list(graph)):
            if node.graph is None or is_read(node) or self.is_done:
                continue
            if not self.view.library.may_go(node):
                continue
            label, orphans = node.name or "", list(node.inputs)
            gone = list(_names(node))
            self._remove(node)
            gone += self._prune([value for value in orphans if value is not None])
            change = Change(UNREAD.name, UNREAD.kind, label, node.op_type, tuple(gone), {})
            self._log(change)


def _names(node: ir.Node) -> tuple[str, ...]:
    return tuple(value.name for value in node.outputs if value.name)


def _size_bytes(node: ir.Node) -> int:
    """Return about what a node takes in a file, rather too little than too much."""
    names = (*node.outputs, *node.inputs)
    lengths = sum(len(value.name) + 2 for value in names if value is not None and value.name)
    texts = sum(len(key) + len(text) for key, text in node.metadata_props.items())
    return lengths + texts + len(node.op_type)


def _release(node: ir.Node) -> None:
    """Let go of what the sub-graphs of a node read outside, so that it can be seen to be unread."""
    for graph in subgraphs_of(node):
        for inner in graph:
            _release(inner)
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)


def is_read(node: ir.Node) -> bool:
    """Whether anything, or a caller, reads an output of a node."""
    return any(output.uses() or output.is_graph_output() for output in node.outputs)


def drop_unread_initializers(graph: ir.Graph, knowledge: Knowledge) -> list[str]:
    """Drop initializers nobody reads; those a caller can override stay. Return their names."""
    dropped = []
    for name, value in list(graph.initializers.items()):
        if value.uses() or value.is_graph_output():
            continue
        if value.is_graph_input() and not knowledge.is_constant(value):
            continue
        if value.is_graph_input():
            graph.inputs.remove(value)
        del graph.initializers[name]
        dropped.append(name)
    return dropped
