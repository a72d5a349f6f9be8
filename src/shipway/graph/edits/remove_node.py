"""Removes one node."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph import editing_nodes
from shipway.graph.edits.result import Edit, EditResult

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, node: str, keep: int = 0) -> EditResult:
    """Remove a node; what read its output reads one of its inputs.

    Args:
        model: The model.
        node: Name of the node.
        keep: Number of the input that takes the place of its output.
    """
    editing_nodes.remove_node(model, node, keep=keep)
    return EditResult(EDIT.name, 1)


EDIT = Edit("remove-node", "changes-numerics", apply)
