"""Makes one MultiHeadAttention of ONNX Runtime of attention in which NaN becomes zero behind Softmax.

Cases: those of `fuse_multi_head_attentions`, with torch's IsNaN and Where, where the mask hides no
whole row by minus infinity: of that the operator makes NaN.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.attention import find_attention, unguarded
from shipway.graph.masks import MaskTerms
from shipway.graph.multi_head import multi_head_rewrite, product_before
from shipway.graph.rules import FINITE, NONEMPTY, Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose MultiHeadAttention where the probabilities are `where(isnan(p), 0, p)`."""
    product = product_before(node, view)
    softmax = None if product is None else unguarded(product.inputs[0], view)
    if product is None or softmax is None:
        return None
    terms = MaskTerms(hidden=False, lowest=False)
    found = find_attention(softmax, product.inputs[1], view, terms)
    return None if found is None else multi_head_rewrite(node, found, view)


RULE = Rule(
    "fuse_guarded_multi_head_attentions",
    "assumption",
    "Makes one MultiHeadAttention of what `fuse_multi_head_attentions` takes and of torch's guard "
    "behind Softmax, where the mask hides no whole row.",
    ("Reshape",),
    propose,
    assumes=(FINITE, NONEMPTY),
)
