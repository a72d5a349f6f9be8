"""Simplifies a graph: one forward pass over what is known of every value, repeated until it rests."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.applying import UNREAD, Applier, drop_unread_initializers
from shipway.graph.collector import collector_paused
from shipway.graph.facts.inference import infer
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.flattening import FLATTEN_ROWS, flatten_rows
from shipway.graph.folding import Folder
from shipway.graph.locating import subgraphs_of
from shipway.graph.numbering import Numbering
from shipway.graph.passes.catalogue import ALL_RULES, LEFT_OUT, PROFILES, rules_of
from shipway.graph.results import Change, Simplification
from shipway.graph.rules import NONEMPTY
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["Change", "Simplification", "SimplifyOptions", "simplify_graph"]

_MOST_ROUNDS = 64  # models rest after two to nine; a rule that undid another would never
_FIRST_IR_WITH_DEFAULTS = 4


@dataclass(frozen=True, slots=True)
class SimplifyOptions:
    """How to simplify.

    Args:
        profile: For whom: "portable" is for any engine; "modern" also writes what opset 23 has;
            "onnxruntime", "openvino", "tensorrt" and "ascend" write what these do well with.
        skip: Names of rules not to use.
        budget_bytes: Bytes by which folded constants may make the file grow. None: not at all.
        limit: Number of changes to make at most, in the order of `Simplification.changes`.
        nonempty: Assume that no dimension is ever 0: then more computed reshapes become constant.
    """

    profile: str = "portable"
    skip: frozenset[str] = frozenset()
    budget_bytes: int | None = None
    limit: int | None = None
    nonempty: bool = False


def simplify_graph(model: ir.Model, options: SimplifyOptions = SimplifyOptions()) -> Simplification:
    """Simplify a model in place.

    Inputs, outputs and their dynamic dimensions stay as they are; so do random operators, custom
    operators and initializers that a caller can override. Declared shapes of intermediate values
    and of outputs are not trusted. The number of nodes and the size of the file do not grow.

    Args:
        model: The model, e.g. from `load_graph`.
        options: Profile, rules to leave out, limits.

    Returns:
        Every change, in order, and where the numbers of removed values are to be found.

    Raises:
        UsageError: There is no such profile.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text('''
        ... <ir_version: 10, opset_import: ["": 20]>
        ... agraph (float[n, 4] x) => (float[n, 4] y) { a = Identity(x)  y = Relu(a) }
        ... ''')
        >>> simplify_graph(model).rules
        {'remove_identities': 1}
    """
    if options.profile not in PROFILES:
        raise UsageError(
            f"There is no profile '{options.profile}'.", hint=f"Choose of: {', '.join(PROFILES)}."
        )
    before = count_nodes(model)
    with collector_paused():
        run = _Simplifier(model, options)
        run.run()
    changes, after = tuple(run.applier.changes), count_nodes(model)
    assumes = _assumptions(options, changes)
    return Simplification(options.profile, changes, before, after, tuple(run.dropped), assumes)


def _assumptions(options: SimplifyOptions, changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return what has to hold for what was done, each once."""
    used = {change.rule for change in changes}
    found = [NONEMPTY] if options.nonempty else []
    found += [one for rule in ALL_RULES if rule.name in used for one in rule.assumes]
    return tuple(dict.fromkeys(found))


def count_nodes(model: ir.Model) -> int:
    """Return the number of nodes, those of sub-graphs and functions too."""
    functions = sum(len(function) for function in model.functions.values())
    return sum(len(graph) for graph in model.graphs()) + functions


class _Simplifier:
    def __init__(self, model: ir.Model, options: SimplifyOptions) -> None:
        self._model = model
        self._options = options
        self.knowledge = Knowledge(model, nonempty=options.nonempty)
        self.view = View(model, self.knowledge)
        self.applier = Applier(self.view, options.limit)
        self._rules = rules_of(options.profile, options.skip, self.view.opset)
        self._folder = Folder(self.view, self.applier, options.skip)
        self._numbering = Numbering(self.view)
        self._everything = True  # in the first round; later only where something changed
        self._touched: set[ir.Node] = set()
        self.dropped: list[str] = []

    def run(self) -> None:
        graph = self._model.graph
        for _ in range(_MOST_ROUNDS):
            changes = len(self.applier.changes)
            self._numbering = Numbering(self.view)
            self._touched, self.applier.touched = self.applier.touched, set()
            was_everything = self._everything
            self._visit_graph(graph)
            self._everything = False
            self._fold()
            if UNREAD.name not in self._options.skip:
                for one in self._model.graphs():
                    self.applier.remove_unread(one)
            if self.applier.is_done:
                break
            if len(self.applier.changes) == changes and not self._flatten():
                if was_everything:
                    break
                self._everything = True  # a rule may wait for what changed far from its node
        for one in self._model.graphs():
            self.dropped += drop_unread_initializers(one, self.knowledge)
        self._declare_initializers()

    def _fold(self) -> None:
        budget = self._options.budget_bytes
        self._folder.fold(max(self.view.spare_bytes, 0) if budget is None else budget)

    def _flatten(self) -> bool:
        left_out = LEFT_OUT.get(self._options.profile, frozenset())
        if FLATTEN_ROWS.name in self._options.skip | left_out:
            return False
        return flatten_rows(self._model.graph, self.view, self.applier)

    def _declare_initializers(self) -> None:
        """Before IR version 4 every initializer is an input too."""
        if self._model.ir_version >= _FIRST_IR_WITH_DEFAULTS:
            return
        graph = self._model.graph
        known = set(graph.inputs)
        graph.inputs.extend(value for value in graph.initializers.values() if value not in known)

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
        facts = [self.knowledge.fact(value) for value in node.outputs]
        if not self._folder.note(node, facts):
            self._merge(node)

    def _is_due(self, node: ir.Node) -> bool:
        return self._everything or node in self._touched or node in self.applier.touched

    def _try_rules(self, node: ir.Node) -> None:
        for rule in self._rules.get(node.op_type, ()) if _is_plain(node) else ():
            if self.applier.is_done:
                return
            rewrite = rule.propose(node, self.view)
            is_applied = rewrite is not None and self.applier.apply(rule, node, rewrite)
            self.view.release_unused()
            if rewrite is None or not is_applied:
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
    return is_standard(node) and not any(
        attribute.is_ref() for attribute in node.attributes.values()
    )
