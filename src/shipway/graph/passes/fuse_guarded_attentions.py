"""Makes one Attention of the nodes that spell it out, where NaN becomes zero behind Softmax.

Cases: those of `fuse_attentions`, with the IsNaN and Where that torch exports for a mask that may hide
a whole row: Attention returns zeros there. Where a score is NaN, Attention returns NaN, as torch does.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.attention import attention_rewrite, find_attention, unguarded
from shipway.graph.masks import MaskTerms
from shipway.graph.rules import FINITE, NONEMPTY, Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose Attention where the probabilities are `where(isnan(p), 0, p)`."""
    softmax = unguarded(node.inputs[0], view)
    if softmax is None:
        return None
    found = find_attention(softmax, node.inputs[1], view, MaskTerms(hidden=True, lowest=True))
    return None if found is None else attention_rewrite(node, found, view)


RULE = Rule(
    "fuse_guarded_attentions",
    "assumption",
    "Makes one Attention of what `fuse_attentions` takes and of torch's guard behind Softmax, IsNaN "
    "and Where: rows that a mask hides stay zeros.",
    ("MatMul",),
    propose,
    assumes=(FINITE, NONEMPTY),
    opset=23,
)
