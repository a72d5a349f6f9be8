"""Makes a Cast of CastLike where the type is known."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Cast to the type of the second input."""
    dtype = view.fact(node.inputs[1]).dtype
    if dtype is None or "saturate" in node.attributes:
        return None
    cast = view.node("Cast", [node.inputs[0]], {"to": int(dtype)})
    return Rewrite((cast.outputs[0],), (cast,))


RULE = Rule(
    "resolve_cast_likes",
    "exact",
    "Makes a Cast of CastLike where the type is known, so that constants can be folded through it.",
    ("CastLike",),
    propose,
)
