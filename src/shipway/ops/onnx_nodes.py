"""Find the custom operators that an ONNX model calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shipway.ops.registry import operator_for_node

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.ops.definition import CustomOp

__all__ = ["CustomNode", "attributes_of", "custom_nodes"]


@dataclass(frozen=True, slots=True)
class CustomNode:
    """A node that calls an operator which is defined here."""

    node: ir.Node
    op: CustomOp


def custom_nodes(model: ir.Model) -> Iterator[CustomNode]:
    """Yield the nodes of a model that call a defined operator; those with a local function too."""
    for node in [item for graph in model.graphs() for item in graph]:
        domain = "" if node.domain == "ai.onnx" else node.domain
        op = operator_for_node(domain, node.op_type)
        if op is not None:
            yield CustomNode(node, op)


def attributes_of(custom: CustomNode) -> dict[str, Any]:
    """Return all attributes of a node, defaults filled in, as the schema has them."""
    found: dict[str, Any] = {}
    for item in custom.op.signature.attributes:
        attribute = custom.node.attributes.get(item.name)
        value = item.default if attribute is None else attribute.value
        found[item.name] = bool(value) if item.kind == "bool" else value
        if item.kind in {"ints", "floats"} and value is not None:
            found[item.name] = list(value)
    return found
