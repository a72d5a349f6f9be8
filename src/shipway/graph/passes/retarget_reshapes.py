"""Gives reshapes a constant target and lets them skip reshapes before them."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.facts.fact import Shape
from shipway.graph.passes.merge_transposes import keeps_numbers
from shipway.graph.patterns import private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE", "target_of"]

_FAMILY = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose the shortest way from the first shape of a chain to the last one."""
    output, first = view.shape(node.outputs[0]), node.inputs[0]
    if output is None or first is None:
        return None
    if node.op_type == "Transpose" and not _ends_a_chain(node, view):
        return None
    if (copied := _copied(node, view)) is not None:
        return Rewrite(operands={1: view.integers(copied)})
    return _shortest(node, first, output, view)


def _shortest(node: ir.Node, first: ir.Value, output: Shape, view: View) -> Rewrite | None:
    source = _source(first, output, view)
    target = target_of(view.shape(source), output, nonempty=view.knowledge.nonempty)
    if target is None:
        return None
    if node.op_type != "Reshape" or node.attributes.get_int("allowzero"):
        if view.opset < 5 or (source is first and _is_settled(node, view)):
            return None
        reshape = view.node("Reshape", [source, view.integers(target)])
        return Rewrite((reshape.outputs[0],), (reshape,))
    operands = {} if source is first else {0: source}
    if view.opset < 5:
        return None
    current = view.array(node.inputs[1])
    if current is None or (operands and [*map(int, current)] != target):
        operands[1] = view.integers(target)
    return Rewrite(operands=operands) if operands else None


def _ends_a_chain(transpose: ir.Node, view: View) -> bool:
    """Whether a Transpose is as good as a Reshape, behind one that nobody else reads."""
    before = private_producer(transpose.inputs[0], _FAMILY[0], view, *_FAMILY[1:])
    return before is not None and keeps_numbers(transpose, view)


def _copied(node: ir.Node, view: View) -> list[int] | None:
    """Return a computed target with 0 for each number that is the input's size at its place.

    That is what a computed number means there even where it is 0, so that a -1 may stay beside it.
    """
    if node.op_type != "Reshape" or view.opset < 5 or node.attributes.get_int("allowzero"):
        return None
    shape, content = view.shape(node.inputs[0]), view.content(node.inputs[1])
    if shape is None or content is None or view.is_constant(node.inputs[1]):
        return None
    found = [
        dim if isinstance(dim, int) else 0 if index < len(shape) and shape[index] == dim else None
        for index, dim in enumerate(content)
    ]
    numbers = [size for size in found if size is not None]
    return numbers if len(numbers) == len(found) else None


def _is_settled(node: ir.Node, view: View) -> bool:
    return node.op_type != "Reshape" or view.is_constant(node.inputs[1])


def _source(value: ir.Value, output: Shape, view: View) -> ir.Value:
    """Go up a chain of reshapes as far as the target can still be said."""
    found = value
    while (node := _hander_on(found, view)) is not None:
        above = node.inputs[0]
        if (
            above is None
            or target_of(view.shape(above), output, nonempty=view.knowledge.nonempty) is None
        ):
            break
        found = above
    return found


def _hander_on(value: ir.Value, view: View) -> ir.Node | None:
    """Return the node that gives a value another shape and leaves its numbers in their order."""
    node = view.producer(value, *_FAMILY, "Transpose")
    if node is None or (node.op_type == "Transpose" and not keeps_numbers(node, view)):
        return None
    return node


def target_of(shape: Shape | None, output: Shape, *, nonempty: bool = False) -> list[int] | None:
    """Return a Reshape target that gives these sizes: numbers, 0 for "as before", one -1.

    A -1 is only used beside sizes that are known and not 0: an empty tensor leaves it open, unless
    there are none (`nonempty`).
    """
    found: list[int] = []
    left: list[int] = []
    for index, dim in enumerate(output):
        if isinstance(dim, int):
            if dim == 0:
                return None
            found.append(dim)
        elif shape is not None and index < len(shape) and shape[index] == dim:
            found.append(0)
        else:
            left.append(index)
            found.append(-1)
    if len(left) > 1 or (left and 0 in found and not nonempty):
        return None
    return found


RULE = Rule(
    "retarget_reshapes",
    "exact",
    "Gives a Reshape a constant target instead of computed sizes, lets it read what stands before "
    "other reshapes, and makes one of Reshape, Squeeze, Unsqueeze and Flatten in a row, and of "
    "Transposes that only move axes of size 1.",
    (*_FAMILY, "Transpose"),
    propose,
)
