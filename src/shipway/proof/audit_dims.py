"""Declared sizes such as `2*seq+1` or `floor(h/2)`: read as text, evaluated at given sizes."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction

__all__ = ["DimFormula", "read_formula"]

Names = Mapping[str, int]
DimFormula = Callable[[Names], int | None]
"""Returns the size at given sizes of the inputs; None where it is no whole number there."""

_BINARY: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda first, second: Fraction(first // second),
    ast.Mod: operator.mod,
}
_CALLS: Mapping[str, Callable[..., Fraction]] = {
    "floor": lambda number: Fraction(math.floor(number)),
    "ceiling": lambda number: Fraction(math.ceil(number)),
    "ceil": lambda number: Fraction(math.ceil(number)),
    "max": max,
    "min": min,
    "mod": operator.mod,
    "pythonmod": operator.mod,
    "floordiv": lambda first, second: Fraction(first // second),
    "cleandiv": operator.truediv,
    "intdiv": lambda first, second: Fraction(first // second),
    "ceildiv": lambda first, second: Fraction(-(-first // second)),
}
_LONGEST = 500


def read_formula(text: str, known: Collection[str]) -> DimFormula | None:
    """Return what a declared size means, or None where it is a name that no input has.

    Args:
        text: As declared: a name, or what torch.onnx, sympy and ONNX Runtime write.
        known: Names of the inputs' dynamic dimensions.

    Example:
        >>> half = read_formula("floor(h/2) + 1", {"h"})
        >>> half({"h": 9})
        5
        >>> read_formula("unk__7", {"h"}) is None
        True
    """
    if text in known:
        return lambda sizes: sizes[text]
    if len(text) > _LONGEST:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _functions(tree)
        if not used or not used <= set(known):
            return None
        _evaluate(tree, dict.fromkeys(used, 1))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    except ArithmeticError:
        pass  # a division by zero at 1: it is a formula all the same
    return lambda sizes: _whole(tree, sizes)


def _functions(tree: ast.expr) -> set[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {one.id for one in calls if isinstance(one, ast.Name)}


def _whole(tree: ast.expr, sizes: Names) -> int | None:
    try:
        found = _evaluate(tree, sizes)
    except ArithmeticError:
        return None
    return int(found) if found.denominator == 1 else None


def _evaluate(node: ast.expr, sizes: Names) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.Name):
        return Fraction(sizes[node.id])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, sizes)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _evaluate(node.left, sizes), _evaluate(node.right, sizes)
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _CALLS.get(node.func.id.lower())
        if function is not None and node.args:
            return function(*(_evaluate(one, sizes) for one in node.args))
    raise ValueError("not a size")
