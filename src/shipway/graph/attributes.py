"""Attributes of a node: as something to compare, and with references to a function's own resolved."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import onnx_ir as ir

__all__ = ["Bindings", "freeze_attributes", "has_references", "resolve_attributes"]

Bindings = Mapping[str, ir.Attr | None]
"""What is known of the attributes of a function's call; None for one that the call leaves out."""

_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def has_references(node: ir.Node) -> bool:
    """Whether an attribute is one of the function's around the node, and so unknown in its body."""
    return any(attribute.is_ref() for attribute in node.attributes.values())


def freeze_attributes(attributes: Mapping[str, ir.Attr | None]) -> Hashable | None:
    """Return attributes as something to compare; None where they hold graphs."""
    found: list[tuple[str, Any]] = []
    for name, attribute in sorted(attributes.items()):
        if attribute is not None and attribute.type in _GRAPHS:
            return None
        found.append((name, None if attribute is None else _frozen_value(attribute)))
    return tuple(found)


def _frozen_value(attribute: ir.Attr) -> Hashable:
    if attribute.is_ref():
        return ("reference", attribute.ref_attr_name)
    value: Any = attribute.value
    if attribute.type is ir.AttributeType.TENSOR:
        is_text = value.dtype is ir.DataType.STRING
        data = tuple(value.string_data()) if is_text else value.tobytes()
        return (int(value.dtype), tuple(value.shape.numpy()), data)
    if isinstance(value, float):
        return value.hex()  # 0.0 and -0.0 are different
    if isinstance(value, (list, tuple)):
        return tuple(one.hex() if isinstance(one, float) else repr(one) for one in value)
    return repr(value)


def resolve_attributes(node: ir.Node, bindings: Bindings) -> dict[str, ir.Attr] | None:
    """Return a node's attributes with those of its function's call in them.

    Args:
        node: A node in the body of a function.
        bindings: What is known of the call.

    Returns:
        None where one of them is unknown.
    """
    found: dict[str, ir.Attr] = {}
    for name, attribute in node.attributes.items():
        if not attribute.is_ref():
            found[name] = attribute
            continue
        source = attribute.ref_attr_name or ""
        if source not in bindings:
            return None
        given = bindings[source]
        if given is not None:
            found[name] = ir.Attr(name, given.type, given.value)
    return found
