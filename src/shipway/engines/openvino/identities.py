"""Operators of a model that hand on what they are given: OpenVINO drops them and their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from openvino import Node, Output

__all__ = ["same_values"]

_NEUTRAL = {"Add": 0, "Subtract": 0, "Multiply": 1, "Divide": 1}
_MOVES = {"Convert", "Reshape", "Squeeze", "Unsqueeze", "Broadcast"}
"""These hand on what they are given where shape and element type stay the same."""


def same_values(output: Output) -> Iterator[str]:
    """Yield the names of the tensors behind this one that are sure to hold the same values.

    A LayerNorm with weight 1 and bias 0, for one, ends in a product and a sum that OpenVINO drops.
    """
    readers = output.get_target_inputs()
    while len(readers) == 1:
        node = next(iter(readers)).get_node()
        if not _hands_on(node, output):
            return
        output = node.output(0)
        yield from sorted(output.get_names())
        readers = output.get_target_inputs()


def _hands_on(node: Node, given: Output) -> bool:
    kind = node.get_type_name()
    if kind not in _NEUTRAL and kind not in _MOVES:
        return False
    if _form(node.output(0)) != _form(given):
        return False
    return kind in _MOVES or _is_neutral(node, given, _NEUTRAL[kind])


def _form(output: Output) -> tuple[Any, ...]:
    shape = output.get_partial_shape()
    if shape.is_dynamic:
        return (output,)  # equal to no other
    return tuple(shape.to_shape()), output.get_element_type().to_string()


def _is_neutral(node: Node, given: Output, neutral: int) -> bool:
    first, second = node.input_values()
    if first == given:
        constant = second
    elif node.get_type_name() in {"Add", "Multiply"}:
        constant = first
    else:
        return False
    owner = constant.get_node()
    return owner.get_type_name() == "Constant" and bool(np.all(owner.get_data() == neutral))
