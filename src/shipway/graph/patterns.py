"""What several rules look for when they recognise an operator that is spelled out."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from shipway.graph.view import View

__all__ = ["number_of", "operands", "private_producer"]


def operands(node: ir.Node) -> Iterator[tuple[ir.Value | None, ir.Value | None]]:
    """Yield the two inputs of a commutative operator in both orders."""
    first, second = node.inputs[0], node.inputs[1]
    yield first, second
    yield second, first


def number_of(value: ir.Value | None, view: View) -> float | None:
    """Return the number a constant of one element holds."""
    tensor = view.knowledge.tensor(value)
    if tensor is None or tensor.size != 1:
        return None
    array = view.array(value)
    return None if array is None else float(array.reshape(-1)[0])


def private_producer(
    value: ir.Value | None, op_type: str, view: View, *others: str
) -> ir.Node | None:
    """Return the standard node that computes a value which nobody else reads."""
    node = view.producer(value, op_type, *others)
    return node if node is not None and value is not None and view.is_private(value) else None
