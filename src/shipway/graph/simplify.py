"""Simplifies a graph: one forward pass over what is known of every value, repeated until it rests."""

from __future__ import annotations

import logging

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.aside import strangers_set_aside
from shipway.graph.callers import Callers
from shipway.graph.collector import collector_paused
from shipway.graph.journal import Journal
from shipway.graph.library import Library
from shipway.graph.locating import all_graphs, all_nodes
from shipway.graph.options import SimplifyOptions
from shipway.graph.ordering import sort_graph
from shipway.graph.passes.catalogue import ALL_RULES, PROFILES
from shipway.graph.results import Change, Simplification
from shipway.graph.rules import NONEMPTY
from shipway.graph.uncalled import UNCALLED, called_functions, drop_uncalled_functions
from shipway.graph.visiting import Visitor

__all__ = ["Change", "Simplification", "SimplifyOptions", "simplify_graph"]

_LOG = logging.getLogger("shipway.graph")
_MOST_SWEEPS = 16  # over the main graph and the functions; two or three are enough for most
_PURE = "gives the same outputs for the same inputs, and does nothing else"
_FIRST_IR_WITH_DEFAULTS = 4
_USUAL = SimplifyOptions()


def simplify_graph(model: ir.Model, options: SimplifyOptions = _USUAL) -> Simplification:
    """Simplify a model in place, bodies of functions too.

    Inputs, outputs and their dynamic dimensions stay as they are, those of functions too; so do
    random operators, custom operators that nobody declares pure, and initializers that a caller can
    override. Declared shapes of intermediate values and of outputs are not trusted. The number of
    nodes and the size of the file do not grow.

    Args:
        model: The model, e.g. from `load_graph`.
        options: Profile, rules to leave out, limits.

    Returns:
        Every change, in order, and where the numbers of removed values are to be found.

    Raises:
        UsageError: There is no such profile, or an operator declared pure has no such name.
        ModelError: The graph has a cycle, or functions of the model call each other in a circle.

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
    sort_graph(model)
    before = count_nodes(model)
    with collector_paused(), strangers_set_aside(model):
        run = _Simplifier(model, options)
        assumes = run.assumptions()
        run.run()
    changes, after = tuple(run.journal.changes), count_nodes(model)
    assumes = tuple(dict.fromkeys((*assumes, *_assumptions(changes))))
    return Simplification(options.profile, changes, before, after, tuple(run.dropped), assumes)


def _assumptions(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return what the rules that were used take for granted, each once."""
    used = {change.rule for change in changes}
    return tuple(
        dict.fromkeys(one for rule in ALL_RULES if rule.name in used for one in rule.assumes)
    )


def count_nodes(model: ir.Model) -> int:
    """Return the number of nodes, those of sub-graphs too, and of functions once each."""
    return sum(len(graph) for graph in all_graphs(model))


class _Simplifier:
    """Visits the main graph, then the functions, each after those that call it."""

    def __init__(self, model: ir.Model, options: SimplifyOptions) -> None:
        self._model = model
        self._options = options
        self._library = Library(model, options.pure)
        self.journal = Journal(options.limit)
        self._main = Visitor(self._library, options, self.journal)
        self._functions = [
            Visitor(self._library, options, self.journal, function)
            for function in self._library.order
        ]
        self._called = called_functions(model, self._library)
        self.dropped: list[str] = []

    def assumptions(self) -> tuple[str, ...]:
        """Return what the caller says must hold, beside what rules take for granted."""
        found = [NONEMPTY] if self._options.nonempty else []
        nodes = all_nodes(self._model) if self._library.declared else ()
        called = {name for node in nodes if (name := self._library.vouched(node))}
        for name in sorted(self._library.declared - called):
            _LOG.warning("%s is declared pure, but no node of the model calls it", name)
        return (*found, *(f"{name} {_PURE}" for name in sorted(called)))

    def run(self) -> None:
        """Sweep until nothing changes."""
        for _ in range(_MOST_SWEEPS):
            changes = len(self.journal.changes)
            self._library.judge_again()
            self._sweep()
            self._drop_uncalled()
            is_at_rest = len(self.journal.changes) == changes
            if not self._functions or is_at_rest or self.journal.is_done:
                break
        self.dropped = self._main.drop_unread_initializers()
        for visitor in self._functions:
            visitor.drop_unread_initializers()
        self._declare_initializers()

    def _sweep(self) -> None:
        callers = Callers(self._library)
        for visitor in (self._main, *self._functions):
            if visitor.function is not None:
                visitor.assume(*callers.agreement(visitor.function))
            visitor.run(self._budget_bytes(visitor))
            if self._functions:
                callers.note(visitor.body, visitor.knowledge)

    def _budget_bytes(self, visitor: Visitor) -> int | None:
        """Return what a body may spend, what it has spent before too."""
        if self._options.budget_bytes is None:
            return None
        others = (one for one in (self._main, *self._functions) if one is not visitor)
        return self._options.budget_bytes - sum(one.spent_bytes for one in others)

    def _drop_uncalled(self) -> None:
        if UNCALLED.name in self._options.skip:
            return
        gone = drop_uncalled_functions(self._model, self._library, self._called, self.journal)
        self._functions = [one for one in self._functions if one.function not in gone]

    def _declare_initializers(self) -> None:
        """Before IR version 4 every initializer is an input too."""
        if self._model.ir_version >= _FIRST_IR_WITH_DEFAULTS:
            return
        graph = self._model.graph
        known = set(graph.inputs)
        graph.inputs.extend(value for value in graph.initializers.values() if value not in known)
