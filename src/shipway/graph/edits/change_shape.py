"""Changes the shape of an input of the model."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import editing_values
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, value: str, shape: tuple[str, ...]) -> EditResult:
    """Declare another shape of an input or output, e.g. --shape batch,3,224,224.

    Args:
        model: The model.
        value: Name of the input or output.
        shape: Numbers, and names of dynamic dimensions.
    """
    sizes = [int(one) if one.lstrip("-").isdigit() else one for one in shape]
    editing_values.change_shape(model, value, sizes)
    return EditResult(EDIT.name, 1, ("the signature of the model has changed",))


EDIT = Edit("change-shape", "exact", apply)
