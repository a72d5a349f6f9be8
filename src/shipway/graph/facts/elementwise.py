"""Shapes and content of operators that work on each element by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from shipway.graph.facts.broadcasting import broadcast
from shipway.graph.facts.dims import (
    Dim,
    add,
    are_different,
    divide,
    is_nonnegative,
    multiply,
    subtract,
)
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.knowledge import CONTENT_DTYPES
from shipway.graph.facts.registry import Call, shapes_of

_RANGES = {
    ir.DataType.INT64: (-(2**63), 2**63 - 1),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
    ir.DataType.BOOL: (0, 1),
}
_BOOLEAN = frozenset(
    [
        "And",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Not",
        "Or",
        "Xor",
    ]
)


@shapes_of(
    *[
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitwiseNot",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "CumSum",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "Identity",
        "InstanceNormalization",
        "GroupNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "RMSNormalization",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Trilu",
        "IsInf",
        "IsNaN",
        "Not",
        "BatchNormalization",
        "LayerNormalization",
        "RotaryEmbedding",
    ]
)
def _same(call: Call) -> Sequence[Fact]:
    op_type, first = call.node.op_type, call.first
    if op_type in _BOOLEAN:
        return [Fact(ir.DataType.BOOL, first.shape, _negated(call))]
    content = first.content if op_type == "Identity" else None
    return [Fact(first.dtype, first.shape, content)]


def _negated(call: Call) -> tuple[Dim, ...] | None:
    """Return what Not makes of truth values that are all known."""
    content = call.first.content
    if call.node.op_type != "Not" or content is None:
        return None
    known = [int(not dim) for dim in content if isinstance(dim, int)]
    return tuple(known) if len(known) == len(content) else None


@shapes_of("Dropout")
def _dropout(call: Call) -> Sequence[Fact]:
    mask = ir.DataType.BOOL if call.knowledge.opset >= 10 else call.first.dtype
    return [Fact(call.first.dtype, call.first.shape), Fact(mask, call.first.shape)]


@shapes_of("Cast")
def _cast(call: Call) -> Sequence[Fact]:
    dtype = ir.DataType(call.int("to"))
    content = call.first.content
    if content is not None and not _fits(content, call.first.dtype, dtype):
        content = None
    return [Fact(dtype, call.first.shape, content)]


def _fits(content: Sequence[Dim], source: ir.DataType | None, target: ir.DataType) -> bool:
    """Whether a cast keeps these numbers. Sizes are taken to fit into 32 bits."""
    if target in {ir.DataType.FLOAT, ir.DataType.DOUBLE}:
        return all(isinstance(dim, int) and abs(dim) < 1 << 24 for dim in content)
    if target not in _RANGES or source not in CONTENT_DTYPES:
        return target in _RANGES and all(isinstance(dim, int) for dim in content)
    low, high = _RANGES[target]
    wide = source is target or (source is not ir.DataType.INT64 and target is not ir.DataType.BOOL)
    return all(low <= dim <= high if isinstance(dim, int) else wide for dim in content) or (
        target is ir.DataType.INT32
        and all(
            low <= dim <= high if isinstance(dim, int) else is_nonnegative(dim) for dim in content
        )
    )


@shapes_of("CastLike")
def _cast_like(call: Call) -> Sequence[Fact]:
    return [Fact(call.facts[1].dtype, call.first.shape)]


@shapes_of(
    *[
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
        "Equal",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "And",
        "Or",
        "Xor",
        "Max",
        "Min",
        "PRelu",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "BitShift",
        "Sum",
        "Mean",
    ]
)
def _broadcast(call: Call) -> Sequence[Fact]:
    shape = broadcast((fact.shape for fact in call.facts), call.knowledge)
    dtype = ir.DataType.BOOL if call.node.op_type in _BOOLEAN else call.first.dtype
    if call.knowledge.opset < 7:  # before, broadcasting was an attribute
        return [Fact(dtype, call.first.shape if len(call.facts) == 2 else None)]
    return [Fact(dtype, shape, _computed(call, dtype))]


def _computed(call: Call, dtype: ir.DataType | None) -> tuple[Dim, ...] | None:
    compute = _ARITHMETIC.get(call.node.op_type)
    sides = [fact.content for fact in call.facts]
    if compute is None or len(sides) != 2 or dtype not in _RANGES:
        return None
    if any(fact.dtype not in CONTENT_DTYPES for fact in call.facts):
        return None
    pairs = _aligned(sides)
    if pairs is None:
        return None
    low, high = _RANGES[dtype]
    found: list[Dim] = []
    for first, second in pairs:
        result = compute(first, second)
        if isinstance(result, int) and not low <= result <= high:
            return None
        found.append(call.knowledge.fresh(any_sign=True) if result is None else result)
    return tuple(found)


def _aligned(sides: Sequence[tuple[Dim, ...] | None]) -> list[tuple[Dim, ...]] | None:
    """Return the numbers side by side, single ones repeated."""
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return None
    size = 0 if any(not side for side in known) else max(map(len, known))
    if any(len(side) not in {1, size} for side in known):
        return None
    repeated = [side * size if len(side) == 1 else side for side in known]
    return list(zip(*repeated, strict=True))


def _quotient(first: Dim, second: Dim) -> Dim | None:
    if isinstance(first, int) and isinstance(second, int):
        if second == 0:
            return None
        size = abs(first) // abs(second)
        return size if (first < 0) == (second < 0) else -size
    return divide(first, second) if is_nonnegative(second) else None


def _remainder(first: Dim, second: Dim) -> Dim | None:
    if isinstance(first, int) and isinstance(second, int):
        return first % second if second > 0 <= first else None
    return 0 if divide(first, second) is not None and is_nonnegative(second) else None


def _equal(first: Dim, second: Dim) -> Dim | None:
    if first == second:
        return 1
    return 0 if are_different(first, second) else None


def _less(first: Dim, second: Dim) -> Dim | None:
    gap = subtract(second, first)
    if isinstance(gap, int):
        return int(gap > 0)
    if is_nonnegative(subtract(first, second)):
        return 0
    return 1 if is_nonnegative(add(gap, -1)) else None


def _maximum(first: Dim, second: Dim) -> Dim | None:
    gap = subtract(first, second)
    if is_nonnegative(gap):
        return first
    return second if is_nonnegative(subtract(second, first)) else None


def _minimum(first: Dim, second: Dim) -> Dim | None:
    found = _maximum(first, second)
    return None if found is None else subtract(add(first, second), found)


def _truth(compute: Callable[[bool, bool], bool]) -> Callable[[Dim, Dim], Dim | None]:
    def both(first: Dim, second: Dim) -> Dim | None:
        if isinstance(first, int) and isinstance(second, int):
            return int(compute(bool(first), bool(second)))
        return None

    return both


_ARITHMETIC: dict[str, Callable[[Dim, Dim], Dim | None]] = {
    "Add": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": _quotient,
    "Mod": _remainder,
    "Equal": _equal,
    "Less": _less,
    "Greater": lambda first, second: _less(second, first),
    "Max": _maximum,
    "Min": _minimum,
    "And": _truth(lambda first, second: first and second),
    "Or": _truth(lambda first, second: first or second),
    "Xor": _truth(lambda first, second: first != second),
}


@shapes_of("Where")
def _where(call: Call) -> Sequence[Fact]:
    shape = broadcast((fact.shape for fact in call.facts), call.knowledge)
    triples = _aligned([fact.content for fact in call.facts])
    content = None
    if triples is not None:
        content = tuple(_chosen(call, *triple) for triple in triples)
    return [Fact(call.facts[1].dtype, shape, content)]


def _chosen(call: Call, condition: Dim, first: Dim, second: Dim) -> Dim:
    if isinstance(condition, int):
        return first if condition else second
    return first if first == second else call.knowledge.fresh(any_sign=True)
