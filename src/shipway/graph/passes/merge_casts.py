"""Merges two casts in a row of which the first loses nothing.

Cases: back to the first type, which leaves nothing; on to a type that is wide enough for the first
one; among integers. From a floating-point number to an integer both stay: what does not fit is
undefined, and engines do it differently by type.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.casting import loses_nothing
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose one Cast, or none, for two."""
    inner = view.producer(node.inputs[0], "Cast")
    source = None if inner is None else inner.inputs[0]
    first, last = view.fact(source).dtype, node.attributes.get_int("to")
    if inner is None or source is None or first is None or last is None:
        return None
    if not loses_nothing(first, inner.attributes.get_int("to")):
        return None
    if first == last:
        return Rewrite((source,))
    if not loses_nothing(first, last) and not (_is_integer(first) and _is_integer(last)):
        return None
    attributes = {name: one.value for name, one in node.attributes.items()}
    merged = view.node("Cast", [source], attributes)
    return Rewrite((merged.outputs[0],), (merged,))


def _is_integer(dtype: int) -> bool:
    return ir.DataType(dtype).name.lower().removeprefix("u") in {"int8", "int16", "int32", "int64"}


RULE = Rule(
    "merge_casts",
    "exact",
    "Makes one Cast of two in a row, or none, where the first loses nothing.",
    ("Cast",),
    propose,
)
