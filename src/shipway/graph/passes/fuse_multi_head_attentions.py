"""Makes one MultiHeadAttention of ONNX Runtime of attention that is spelled out, heads side by side.

Cases: those of `fuse_attentions` in which queries, keys and values have as many heads, moved to the
front by a Transpose each or together; any mask. Opset 23 has Attention for it.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.attention import find_attention
from shipway.graph.multi_head import multi_head_rewrite, product_before
from shipway.graph.patterns import private_producer
from shipway.graph.rules import NONEMPTY, Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose MultiHeadAttention where its result is transposed and reshaped."""
    product = product_before(node, view)
    softmax = None if product is None else private_producer(product.inputs[0], "Softmax", view)
    if product is None or softmax is None:
        return None
    found = find_attention(softmax, product.inputs[1], view, None)
    return None if found is None else multi_head_rewrite(node, found, view)


RULE = Rule(
    "fuse_multi_head_attentions",
    "assumption",
    "Makes one MultiHeadAttention of ONNX Runtime of attention with heads that were transposed, before "
    "opset 23.",
    ("Reshape",),
    propose,
    assumes=(NONEMPTY,),
)
