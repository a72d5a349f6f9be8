"""Replaces calls of model-local functions by their bodies."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import functions
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, only: tuple[str, ...] = ()) -> EditResult:
    """Replace calls of model-local functions by their bodies.

    Args:
        model: The model.
        only: Names of functions; all if empty.
    """
    return EditResult(EDIT.name, functions.inline_functions(model, only=only))


EDIT = Edit("inline-functions", "exact", apply)
