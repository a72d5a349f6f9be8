"""Lets Attention take heads side by side, so that nobody has to move them to the front and back.

Cases: queries, keys and values transposed apart or together, rotary embeddings between; what the
heads are joined to by a Reshape at the end.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.heads import SideBySide
from shipway.graph.multi_head import joins_heads, shaped_like
from shipway.graph.patterns import dying, private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_MOST_INPUTS = 4  # a cache of earlier keys has its heads in front


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose Attention with three dimensions where its result is transposed and reshaped."""
    transpose = joins_heads(node, view)
    if transpose is None:
        return None
    attention = private_producer(transpose.inputs[0], "Attention", view)
    if attention is None or len(attention.inputs) > _MOST_INPUTS or len(attention.outputs) > 1:
        return None
    shapes = [view.shape(one) for one in attention.inputs[:3]]
    sizes = [shape for shape in shapes if shape is not None and len(shape) == 4]
    if len(sizes) != 3:
        return None
    heads = SideBySide(view)
    joined = [heads.joined(*one) for one in zip(attention.inputs[:3], sizes, strict=True)]
    counts = {"q_num_heads": sizes[0][1], "kv_num_heads": sizes[1][1]}
    if None in joined or not all(isinstance(count, int) for count in counts.values()):
        return None
    attributes = {name: one.value for name, one in attention.attributes.items()} | counts
    if "scale" not in attributes and not isinstance(sizes[0][3], int):
        return None
    inputs = [*joined, *attention.inputs[3:]]
    flat = view.node("Attention", inputs, attributes)
    shaped = shaped_like(node, flat, view)
    nodes = (*heads.nodes, flat, shaped)
    kept = [value for new in nodes for value in new.inputs if value is not None]
    fewer = len(nodes) <= len(dying([node], kept))
    return Rewrite((shaped.outputs[0],), nodes) if fewer else None


RULE = Rule(
    "flatten_attentions",
    "reassociating",
    "Lets Attention take heads side by side where they were transposed to the front and back.",
    ("Reshape",),
    propose,
    opset=23,
)
