"""Writes the default domain in one way."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import domains
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Import the default domain as '' everywhere, where some exporters write 'ai.onnx'."""
    return EditResult(EDIT.name, domains.unify_domain(model))


EDIT = Edit("unify-domain", "exact", apply)
