"""What several rules look for when they recognise an operator that is spelled out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from shipway.graph.view import View

__all__ = ["count_new", "dying", "number_of", "operands", "private_producer"]


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


def dying(nodes: Iterable[ir.Node], kept: Iterable[ir.Value]) -> set[ir.Node]:
    """Return the nodes nobody would read any more without these, and these themselves.

    Args:
        nodes: The nodes that are to go.
        kept: Values that are read by what comes in their place.
    """
    found = set(nodes)
    keeps = set(kept)
    pending = list(found)
    while pending:
        for value in pending.pop().inputs:
            above = None if value is None else value.producer()
            if above is None or above in found or not keeps.isdisjoint(above.outputs):
                continue
            readers = (use.node for output in above.outputs for use in output.uses())
            # A node in no graph belongs to a proposal that came to nothing.
            if all(one in found or one.graph is None for one in readers) and not any(
                output.is_graph_output() for output in above.outputs
            ):
                found.add(above)
                pending.append(above)
    return found


def count_new(nodes: Iterable[ir.Node]) -> int:
    """Return how many of these nodes compute what no node of the graph computes.

    Args:
        nodes: New nodes with one output each, in order.
    """
    known: dict[ir.Value | None, ir.Value] = {}
    count = 0
    for node in nodes:
        inputs = [known.get(value, value) for value in node.inputs]
        equal = next((one for one in _readers(inputs) if _are_equal(one, node, inputs)), None)
        if equal is None:
            count += 1
        else:
            known[node.outputs[0]] = equal.outputs[0]
    return count


def _readers(values: list[ir.Value | None]) -> Iterator[ir.Node]:
    first = next((value for value in values if value is not None), None)
    if first is not None:
        yield from (use.node for use in first.uses() if use.node.graph is not None)


def _are_equal(node: ir.Node, other: ir.Node, inputs: list[ir.Value | None]) -> bool:
    if node.op_identifier() != other.op_identifier() or list(node.inputs) != inputs:
        return False
    first, second = (
        {name: one.value for name, one in each.attributes.items()} for each in (node, other)
    )
    return first == second
