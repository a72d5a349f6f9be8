"""Makes a Gemm of a matrix product and the addition of a bias, in two dimensions only."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Gemm. Three dimensions would need reshapes, which gain nothing."""
    output = view.shape(node.outputs[0])
    for index, value in enumerate(node.inputs):
        matmul, bias = view.producer(value, "MatMul"), node.inputs[1 - index]
        if matmul is None or value is None or not view.is_private(value):
            continue
        shapes = [view.shape(one) for one in matmul.inputs]
        flat = all(shape is not None and len(shape) == 2 for shape in shapes)
        bias_shape = view.shape(bias)
        if not flat or bias_shape is None or len(bias_shape) > 2 or output != view.shape(value):
            continue
        if view.opset < 7 or view.fact(value).dtype not in _GEMM_DTYPES:
            return None
        gemm = view.node("Gemm", [*matmul.inputs, bias])
        return Rewrite((gemm.outputs[0],), (gemm,))
    return None


_GEMM_DTYPES = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})

RULE = Rule(
    "fuse_matmul_adds",
    "reassociating",
    "Makes a Gemm of MatMul and Add where both matrices have two dimensions.",
    ("Add",),
    propose,
)
