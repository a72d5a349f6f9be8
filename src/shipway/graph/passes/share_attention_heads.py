"""Lets Attention read keys and values whose heads were repeated for groups of queries only once.

Cases: keys and values with four dimensions, both Reshape(Expand(Unsqueeze)) with the same groups.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.attention import single_heads
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_MOST_INPUTS = 4  # a cache of earlier keys has as many heads as the keys


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose to read the heads before they were repeated."""
    if len(node.inputs) > _MOST_INPUTS or len(node.outputs) > 1:
        return None
    query = view.shape(node.inputs[0])
    key, value = (single_heads(one, view) for one in node.inputs[1:3])
    if query is None or len(query) != 4 or key is None or value is None:
        return None
    before, after = view.shape(node.inputs[1]), key.shape[1]
    if key.value is node.inputs[1] or before is None or value.shape[1] != after:
        return None
    heads = query[1]
    if not isinstance(heads, int) or not isinstance(after, int) or before[1] != heads:
        return None
    return Rewrite(operands={1: key.value, 2: value.value}) if heads % after == 0 else None


RULE = Rule(
    "share_attention_heads",
    "exact",
    "Lets Attention read keys and values before their heads are repeated for groups of queries.",
    ("Attention",),
    propose,
    opset=23,
)
