"""Renames a value, be it an input or output of the model."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import naming
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, value: str, name: str) -> EditResult:
    """Rename a value; an input or output gets a new name in the signature.

    Args:
        model: The model.
        value: Its name.
        name: Its new name.
    """
    naming.rename_value(model, value, name)
    return EditResult(EDIT.name, 1)


EDIT = Edit("rename-value", "exact", apply)
