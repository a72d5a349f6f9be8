"""Moves custom operators to another domain."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import domains
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(
    model: ir.Model, *, domain: str, version: int | None = None, only: tuple[str, ...] = ()
) -> EditResult:
    """Move custom operators to another domain, e.g. the one a converter's plugin is registered for.

    Args:
        model: The model.
        domain: The new domain; ai.onnx is the default one.
        version: Version of its opset.
        only: Operator types to move; all custom ones if empty.
    """
    changed = domains.set_domain(model, domain, version, only=only)
    return EditResult(EDIT.name, changed)


EDIT = Edit("set-domain", "exact", apply)
