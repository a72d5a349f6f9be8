"""The reference as it is called: narrow floats are computed in float32, whatever the reference does.

torch computes some operators in the dtype of their inputs and is then wrong (its CPU grid_sample in
float16 past 32,767 elements a plane), so no reference is ever given a narrow float.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shipway.ops.schema import LETTERS

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["call_reference"]


def call_reference(op: CustomOp, *args: Any, **kwargs: Any) -> Any:
    """Call the reference of an operator: Ts widened to float32, Is to int64, outputs rounded back.

    Args:
        op: The operator.
        args: Arguments in the order of its schema.
        kwargs: The same, by name.
    """
    import torch

    tensors, attributes = op.signature.split(args, kwargs)
    narrow: Any = None
    for at, (item, tensor) in enumerate(zip(op.signature.inputs, tensors, strict=True)):
        if tensor is None:
            continue
        if item.letter == "T":
            narrow = tensor.dtype if narrow is None else narrow
            wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
            tensors[at] = tensor.to(wide)
        elif item.letter == "I":
            tensors[at] = tensor.to(torch.int64)
    results = op.reference(*tensors, **attributes)
    if not isinstance(results, tuple | list):
        return _round(results, op.signature.outputs, narrow)
    return tuple(
        _round(result, letter, narrow)
        for result, letter in zip(results, op.signature.outputs, strict=True)
    )


def _round(result: Any, letter: str, narrow: Any) -> Any:
    import torch

    if letter == "T":
        return result.to(narrow)
    return result.to(getattr(torch, LETTERS.get(letter, "int64")))
