"""Rewrites a pattern given as text."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import rewriting
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, pattern: str, replacement: str, commute: bool = False) -> EditResult:
    """Replace a pattern, e.g. --pattern "c = Add(a, b); d = Relu(c)" --replacement "d = mine.AddRelu(a, b)".

    Args:
        model: The model.
        pattern: Nodes in ONNX's text form, separated by ";".
        replacement: The same, or a variable of the pattern alone.
        commute: Match Add, Mul and the like with swapped inputs too.
    """
    changed = rewriting.rewrite(model, pattern, replacement, commute=commute)
    return EditResult(EDIT.name, changed)


EDIT = Edit("rewrite-pattern", "changes-numerics", apply)
