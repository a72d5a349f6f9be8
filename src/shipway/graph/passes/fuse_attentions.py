"""Makes one Attention of the nodes that spell it out.

Cases: scale before or after the product, on one side or both; a mask that hides no whole row; keys
transposed or not, their heads repeated for groups of queries.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.attention import attention_rewrite, find_attention
from shipway.graph.masks import MaskTerms
from shipway.graph.patterns import private_producer
from shipway.graph.rules import NONEMPTY, Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose Attention for `softmax(query @ key.T * scale + mask) @ value` with four dimensions."""
    softmax = private_producer(node.inputs[0], "Softmax", view)
    if softmax is None:
        return None
    found = find_attention(softmax, node.inputs[1], view, MaskTerms(hidden=False, lowest=True))
    return None if found is None else attention_rewrite(node, found, view)


RULE = Rule(
    "fuse_attentions",
    "assumption",
    "Makes one Attention of MatMul, scale, mask, Softmax and MatMul with batch and heads apart, where "
    "the mask hides no whole row.",
    ("MatMul",),
    propose,
    assumes=(NONEMPTY,),
    opset=23,
)
