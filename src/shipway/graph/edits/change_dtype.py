"""Changes the dtype of an input or output of the model."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import editing_values
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, value: str, dtype: str) -> EditResult:
    """Give an input or output another dtype; a Cast inside keeps the rest as it is.

    Args:
        model: The model.
        value: Name of the input or output.
        dtype: E.g. int32 for int64 token ids.
    """
    editing_values.change_dtype(model, value, dtype)
    return EditResult(EDIT.name, 1, ("the signature of the model has changed",))


EDIT = Edit("change-dtype", "exact", apply)
