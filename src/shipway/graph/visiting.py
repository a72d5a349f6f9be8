"""Visits the nodes of one body, the main graph or a function's, again and again until it rests."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from shipway.graph.applying import UNREAD, Applier, drop_unread_initializers
from shipway.graph.attributes import Bindings, freeze_attributes, has_references
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.inference import infer
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.flattening import FLATTEN_ROWS, flatten_rows
from shipway.graph.folding import Folder
from shipway.graph.journal import Journal
from shipway.graph.layout import MOVE_TRANSPOSES, move_transposes
from shipway.graph.library import Library, function_name
from shipway.graph.locating import subgraphs_of
from shipway.graph.numbering import Numbering
from shipway.graph.options import SimplifyOptions
from shipway.graph.passes import lift_constants
from shipway.graph.passes.catalogue import rules_of
from shipway.graph.rules import Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["Visitor"]

_MOST_ROUNDS = 64  # models rest after two to nine; a rule that undid another would never


class Visitor:
    """Simplifies a body.

    Args:
        library: The functions and custom operators of the model.
        options: Rules to leave out, limits.
        journal: Where changes are noted.
        function: The function whose body it is; None for the main graph.
    """

    def __init__(
        self,
        library: Library,
        options: SimplifyOptions,
        journal: Journal,
        function: ir.Function | None = None,
    ) -> None:
        """Find the rules that the body's opset has."""
        self.function = function
        self.body = library.model.graph if function is None else function.graph
        self._options = options
        self._library = library
        self.knowledge = Knowledge(self.body, library, nonempty=options.nonempty)
        self.view = View(self.knowledge)
        name = "" if function is None else function_name(function)
        self.applier = Applier(self.view, journal, name)
        self._journal = journal
        skip = options.skip if function is None else options.skip | {lift_constants.RULE.name}
        self._rules: Mapping[str, Sequence[Rule]] = rules_of(options.profile, skip, self.view.opset)
        self._folder = Folder(self.view, self.applier, options.skip)
        self._numbering = Numbering(self.view)
        self._everything = True  # in the first round; later only where something changed
        self._touched: set[ir.Node] = set()
        self._assumed: object = None
        self._fewest_transposes = sys.maxsize

    @property
    def spent_bytes(self) -> int:
        """How much of the budget for constants is used up."""
        return self._folder.spent_bytes

    def assume(self, facts: Sequence[Fact], bindings: Bindings) -> None:
        """Note what is known of a function's inputs and attributes, whoever calls it."""
        assumed = tuple(facts), freeze_attributes(bindings)
        if assumed == self._assumed:
            return
        self._assumed = assumed
        self.knowledge.forget_all()  # the same name may stand for another size now
        self.knowledge.bindings = bindings
        for value, fact in zip(self.body.inputs, facts, strict=True):
            self.knowledge.learn(value, fact)

    def run(self, budget_bytes: int | None) -> None:
        """Apply rules until none fits, or the journal is full.

        Args:
            budget_bytes: Bytes by which folded constants may make the file grow; None: not at all.
        """
        self._everything = True
        self.knowledge.calls.clear()
        for _ in range(_MOST_ROUNDS):
            changes = len(self._journal.changes)
            self._numbering = Numbering(self.view)
            self._touched, self.applier.touched = self.applier.touched, set()
            self._visit_graph(self.body)
            self._everything = False
            spare_bytes = max(self.view.spare_bytes, 0)
            self._folder.fold(spare_bytes if budget_bytes is None else budget_bytes)
            self._remove_unread()
            if self.applier.is_done:
                break
            if len(self._journal.changes) == changes and not self._restructure():
                break

    def graphs(self) -> Iterator[ir.Graph]:
        """Yield the body and every graph inside it."""
        yield self.body
        yield from self.body.subgraphs()

    def drop_unread_initializers(self) -> list[str]:
        """Drop initializers nobody reads, and return their names."""
        dropped = []
        for graph in list(self.graphs()):
            dropped += drop_unread_initializers(graph, self.knowledge)
        return dropped

    def _remove_unread(self) -> None:
        self.view.drop_unused_constants()
        if UNREAD.name not in self._options.skip:
            for one in list(self.graphs()):
                self.applier.remove_unread(one)

    def _restructure(self) -> bool:
        """Rewrite a stretch of nodes as a whole, once no rule finds anything; say whether any was."""
        skip = self._options.skip
        if self.function is not None:
            return False  # weights in new forms would need Constant nodes
        if FLATTEN_ROWS.name not in skip and flatten_rows(self.body, self.view, self.applier):
            return True
        transposes = sum(node.op_type == "Transpose" for node in self.body)
        if MOVE_TRANSPOSES.name in skip or transposes >= self._fewest_transposes:
            return False
        self._fewest_transposes = transposes  # each move leaves fewer, or none is made any more
        return move_transposes(self.body, self.view, self.applier)

    def _visit_graph(self, graph: ir.Graph) -> None:
        for node in graph:
            if self.applier.is_done:
                return
            if node.graph is graph:
                self._visit(node)

    def _visit(self, node: ir.Node) -> None:
        inside = list(subgraphs_of(node))
        if inside:
            self._learn(node)  # what the inputs of a loop's body are
        for inner in inside:
            with self._numbering.scope():
                self._visit_graph(inner)
        if inside or self._is_due(node):
            self._learn(node)
            self._try_rules(node)
            if node.graph is None:
                return
        self._merge(node)
        if node.graph is not None:
            self._folder.note(node, [self.knowledge.fact(value) for value in node.outputs])

    def _is_due(self, node: ir.Node) -> bool:
        return self._everything or node in self._touched or node in self.applier.touched

    def _try_rules(self, node: ir.Node) -> None:
        for rule in self._rules.get(node.op_type, ()) if _is_plain(node) else ():
            if self.applier.is_done:
                return
            rewrite = rule.propose(node, self.view)
            if rewrite is None or not self.applier.apply(rule, node, rewrite):
                continue
            for new in rewrite.nodes:
                if new.graph is not None:
                    self._visit(new)
            if node.graph is None:
                return
            self._learn(node)

    def _learn(self, node: ir.Node) -> None:
        """Note what is known of a node's outputs; whoever reads what is new is looked at again."""
        for value, fact in zip(node.outputs, infer(node, self.knowledge), strict=True):
            if self.knowledge.learn(value, fact):
                self.applier.touched.update(use.node for use in value.uses())

    def _merge(self, node: ir.Node) -> None:
        found = self._numbering.propose(node)
        if found is not None and found[0].name not in self._options.skip:
            self.applier.apply(found[0], node, found[1])


def _is_plain(node: ir.Node) -> bool:
    """Whether rules may look at a node: a standard operator whose attributes are all known."""
    return is_standard(node) and not has_references(node)
