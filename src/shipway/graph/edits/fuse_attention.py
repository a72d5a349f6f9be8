"""Refuses to do what surgeon's BigKernel did."""

from __future__ import annotations

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model) -> EditResult:
    """Refused: msit's BigKernel fused attention into shapes only one chip's compiler knows.

    Raises:
        ModelError: Always.
    """
    del model
    raise ModelError(
        "BigKernel rewrites attention for one compiler's fixed pattern, and what it writes is not "
        "portable ONNX: no other runtime, so no proof, can run it.",
        hint="From opset 23 on attention is an operator: shipway simplify MODEL --profile modern. "
        "Your own fused operator: shipway graph edit MODEL rewrite-pattern --allow.",
    )


EDIT = Edit("fuse-attention", "changes-numerics", apply, knowledge="BigKernel")
