"""Replaces an Einsum that is a matrix product.

Cases: two operands, the last letter of the first summed against the last but one of the second, the
same letters before them in the same order, or a second operand of two dimensions; no ellipsis.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_EQUATION = re.compile(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)")
_DTYPES = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a MatMul of the same operands."""
    equation = node.attributes.get_string("equation", "")
    found = _EQUATION.fullmatch((equation or "").replace(" ", ""))
    if found is None or len(node.inputs) != 2 or view.fact(node.inputs[0]).dtype not in _DTYPES:
        return None
    first, second, result = found.groups()
    if not _is_product(first, second, result):
        return None
    shapes = [view.shape(value) for value in node.inputs]
    if [None if shape is None else len(shape) for shape in shapes] != [len(first), len(second)]:
        return None
    product = view.node("MatMul", node.inputs)
    return Rewrite((product.outputs[0],), (product,))


def _is_product(first: str, second: str, result: str) -> bool:
    if min(len(first), len(second)) < 2 or len(set(first)) < len(first):
        return False
    batch, row, summed = first[:-2], first[-2], first[-1]
    column = second[-1]
    if column in first or len(set(second)) < len(second):
        return False
    return second in {f"{batch}{summed}{column}", f"{summed}{column}"} and (
        result == f"{batch}{row}{column}"
    )


RULE = Rule(
    "replace_einsums",
    "reassociating",
    "Makes a MatMul of an Einsum that is one.",
    ("Einsum",),
    propose,
)
