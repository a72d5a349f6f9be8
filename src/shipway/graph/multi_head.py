"""Writes the MultiHeadAttention of ONNX Runtime, which every build of it has."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.attention import Attention
from shipway.graph.heads import SideBySide
from shipway.graph.patterns import dying, private_producer
from shipway.graph.rules import Rewrite
from shipway.graph.view import View

__all__ = ["joins_heads", "multi_head_rewrite", "product_before", "shaped_like"]

_DOMAIN = "com.microsoft"
_RANK = 4
_FIRST_WITH_ATTENTION = 23


def product_before(node: ir.Node, view: View) -> ir.Node | None:
    """Return the product whose heads a Transpose moves back and a Reshape joins."""
    transpose = joins_heads(node, view)
    if transpose is None or view.opset >= _FIRST_WITH_ATTENTION:
        return None
    return private_producer(transpose.inputs[0], "MatMul", view)


def joins_heads(node: ir.Node, view: View) -> ir.Node | None:
    """Return the Transpose before a Reshape that means the same of heads side by side."""
    transpose = private_producer(node.inputs[0], "Transpose", view)
    if transpose is None or list(transpose.attributes.get_ints("perm") or ()) != [0, 2, 1, 3]:
        return None
    target = view.content(node.inputs[1]) if len(node.inputs) > 1 else None
    if target is None:
        return None
    # Without allowzero a 0 copies the dimension at its place, of which there are other ones now.
    copies = not node.attributes.get_int("allowzero", 0)
    others = [dim for dim in target[2:] if not isinstance(dim, int) or dim == 0]
    return None if copies and others else transpose


def shaped_like(node: ir.Node, source: ir.Node, view: View) -> ir.Node:
    """Return a Reshape to the same target."""
    attributes = {name: one.value for name, one in node.attributes.items()}
    return view.node("Reshape", [source.outputs[0], node.inputs[1]], attributes)


def multi_head_rewrite(node: ir.Node, found: Attention, view: View) -> Rewrite | None:
    """Return the operator and the last Reshape; None where the heads are not at hand side by side."""
    count, group = found.shapes[0][1], found.shapes[1][1]
    if count != group or not isinstance(count, int):
        return None
    mask = found.mask
    if mask is not None and len(view.shape(mask) or ()) != _RANK:
        return None
    side_by_side = SideBySide(view)
    values = (found.query, found.key, found.value)
    joined = [side_by_side.joined(*one) for one in zip(values, found.shapes, strict=True)]
    if None in joined or (side_by_side.is_packed and not found.nodes):
        return None  # one Transpose for all three is faster than three inside: DeiT takes 2% less
    inputs = joined if mask is None else [*joined, None, None, mask]
    attributes = {"num_heads": count, "scale": found.scale}
    whole = view.node("MultiHeadAttention", inputs, attributes, domain=_DOMAIN)
    shaped = shaped_like(node, whole, view)
    read = {id(value) for new in (*found.nodes, *side_by_side.nodes, whole) for value in new.inputs}
    needed = [new for new in found.nodes if id(new.outputs[0]) in read]
    nodes = (*needed, *side_by_side.nodes, whole, shaped)
    kept = [value for new in nodes for value in new.inputs if value is not None]
    fewer = len(nodes) <= len(dying([node], kept))
    return Rewrite((shaped.outputs[0],), nodes) if fewer else None
