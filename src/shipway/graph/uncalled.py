"""Drops functions that nobody calls any more."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from shipway.graph.journal import Journal
from shipway.graph.leftovers import has_leftovers
from shipway.graph.library import Library, function_name
from shipway.graph.results import Change
from shipway.graph.rules import Rule

__all__ = ["UNCALLED", "called_functions", "drop_uncalled_functions"]

UNCALLED = Rule(
    "drop_uncalled_functions",
    "exact",
    "Drops functions whose last call was simplified away; those that nobody called before stay.",
    (),
    lambda _node, _view: None,
)


def called_functions(model: ir.Model, library: Library) -> set[ir.Function]:
    """Return the functions that the main graph or another function calls."""
    bodies = (model.graph, *model.functions.values())
    return {function for body in bodies for function in library.callees(body)}


def drop_uncalled_functions(
    model: ir.Model, library: Library, called_before: Collection[ir.Function], journal: Journal
) -> list[ir.Function]:
    """Drop what was called before and is not now, and what only that called; return it.

    Nothing is dropped from a model with training information: that may call functions too.
    """
    gone: list[ir.Function] = []
    if has_leftovers(model):
        return gone
    while unread := _unread(model, library, called_before):
        for key, function in unread.items():
            if journal.is_done:
                return gone
            del model.functions[key]
            library.drop(function)
            gone.append(function)
            name = function_name(function)
            journal.note(Change(UNCALLED.name, UNCALLED.kind, name, "function", (), {}, (), name))
    return gone


def _unread(
    model: ir.Model, library: Library, called_before: Collection[ir.Function]
) -> dict[ir.OperatorIdentifier, ir.Function]:
    called = called_functions(model, library)
    return {
        key: function
        for key, function in model.functions.items()
        if function in called_before and function not in called
    }
