"""Which operators are ONNX's own."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["STANDARD_DOMAINS", "is_standard"]

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
"""The two names of ONNX's default domain."""


def is_standard(node: ir.Node, *op_types: str) -> bool:
    """Whether a node is an operator of ONNX's default domain, and one of these where some are given."""
    return node.domain in STANDARD_DOMAINS and (not op_types or node.op_type in op_types)
