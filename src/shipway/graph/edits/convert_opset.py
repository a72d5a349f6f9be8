"""Converts a model to another opset."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import opsets
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, version: int) -> EditResult:
    """Convert the model to another opset, up or down; an operator that cannot is named.

    Args:
        model: The model.
        version: The opset to deliver.
    """
    change = opsets.convert_opset(model, version)
    note = f"opset {change.before} -> {change.after}"
    return EditResult(EDIT.name, change.nodes, (note,))


EDIT = Edit("convert-opset", "reassociating", apply)
