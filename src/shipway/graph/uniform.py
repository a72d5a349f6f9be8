"""Tensors filled with one number, whatever their size: constants and what is made of shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from shipway.graph.view import View

__all__ = ["filling_of"]

_KEEP = frozenset(
    {
        *("Reshape", "Transpose", "Slice", "Expand", "Tile", "Squeeze", "Unsqueeze", "Flatten"),
        *("Identity", "Gather", "Split"),
    }
)
_MOST_ELEMENTS = 65536


def filling_of(value: ir.Value | None, view: View) -> np.generic | None:
    """Return the number a tensor consists of; None where there are several, or none is known."""
    found = value
    while found is not None and (node := view.producer(found, *_KEEP)) is not None:
        found = node.inputs[0]
    if found is None:
        return None
    filled = view.producer(found, "ConstantOfShape")
    if filled is not None:
        attribute = filled.attributes.get("value")
        array: Any = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
        return array.reshape(-1)[0]  # type: ignore[no-any-return] # numpy's scalars are Any here
    tensor = view.knowledge.tensor(found)
    if tensor is None or not view.is_constant(found) or not 0 < tensor.size <= _MOST_ELEMENTS:
        return None
    numbers = view.array(found)
    return None if numbers is None else _single(numbers)


def _single(numbers: Any) -> np.generic | None:
    """Return the number all elements are, bit for bit."""
    flat = numbers.reshape(-1)
    if flat.dtype.kind not in "fiub" or not (flat == flat[0]).all():
        return None
    if flat.dtype.kind == "f" and not (np.signbit(flat) == np.signbit(flat[0])).all():
        return None
    return flat[0]  # type: ignore[no-any-return] # numpy's scalars are Any here
