"""What is declared of values, and which values lie between two sets of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shipway.compat.auto_optimizer.node import Node, PlaceHolder
from shipway.compat.elements import Operator
from shipway.compat.wiring import Wiring
from shipway.errors import UsageError

__all__ = ["declared_value", "declared_values", "part_between"]


def declared_value(wiring: Wiring, name: str) -> PlaceHolder | None:
    """Return what is declared of a value that a node computes, None where nothing is."""
    node = wiring.writer(name)
    if node is None:
        return None
    index = node.outputs.index(name)
    if index >= len(node.ir.outputs) or node.ir.outputs[index].type is None:
        return None
    return PlaceHolder.wrap(node.ir.outputs[index], name)


def declared_values(wiring: Wiring) -> list[PlaceHolder]:
    """Return what is declared of values between."""
    names = [name for node in wiring.nodes for name in node.outputs if not wiring.is_output(name)]
    found = [declared_value(wiring, name) for name in names]
    return [one for one in found if one is not None]


def part_between(
    wiring: Wiring, starts: Sequence[str], ends: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the inputs and outputs of the part of a graph from some nodes to others.

    Args:
        wiring: The graph.
        starts: Names of the first nodes; those that read the graph's inputs if empty.
        ends: Names of the last nodes; those that write the graph's outputs if empty.

    Raises:
        UsageError: A node does not exist, or none lies between.
    """
    first = [_node(wiring, name, "Start") for name in starts] or [
        node for one in wiring.inputs for node in wiring.readers(one.name)
    ]
    last = [_node(wiring, name, "End") for name in ends] or [
        node for one in wiring.outputs if (node := wiring.writer(one.name)) is not None
    ]
    behind = _reach(first, lambda node: _readers(wiring, node))
    between = behind & _reach(last, lambda node: _writers(wiring, node))
    if not between:
        raise _NotBetween("There is no path from start nodes to end nodes")
    fixed = {one.name for one in wiring.initializers}
    inputs: dict[str, None] = {}
    for node in wiring.nodes:
        for name in (*node.inputs, *node.names_outside) if node in between else ():
            inside = wiring.writer(name) in between and node not in first
            if name and name not in fixed and not inside:
                inputs[name] = None
    outputs = dict.fromkeys(name for node in last for name in node.outputs if name)
    return list(inputs), list(outputs)


class _NotBetween(UsageError, ValueError):
    """The nodes given enclose no part of the graph."""


def _node(wiring: Wiring, name: str, side: str) -> Operator:
    found = wiring.find(name, Node)
    if not isinstance(found, Operator):
        raise _NotBetween(f"{side} node {name} is not in this model")
    return found


def _reach(
    start: Iterable[Operator], step: Callable[[Operator], Iterable[Operator]]
) -> set[Operator]:
    found: set[Operator] = set()
    pending = list(start)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += step(node)
    return found


def _readers(wiring: Wiring, node: Operator) -> list[Operator]:
    return [one for name in node.outputs for one in wiring.readers(name)]


def _writers(wiring: Wiring, node: Operator) -> list[Operator]:
    names = (*node.inputs, *node.names_outside)
    return [one for name in names if (one := wiring.writer(name)) is not None]
