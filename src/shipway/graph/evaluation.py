"""Computes constant nodes with numpy: exactly what the operator's definition says, or nothing.

Only operators with an evaluator are folded. These here move numbers, compare them, or compute each
by itself; those that sum are in `evaluation_sums`. Integers wrap around, as engines let them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["EVALUATORS", "Array", "Constants", "evaluate", "evaluates", "given"]

Array = NDArray[Any]
_FAR = 2**31 - 1


class Constants(NamedTuple):
    """A node and the numbers of its inputs."""

    op_type: str
    attributes: Mapping[str, Any]
    inputs: Sequence[Array | None]
    opset: int
    outputs: int

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def axes(self, index: int) -> tuple[int, ...] | None:
        """Return axes that are an attribute in older opsets and an input in newer ones."""
        if index < len(self.inputs) and (found := self.inputs[index]) is not None:
            return tuple(map(int, found.reshape(-1)))
        named = self.get("axes")
        return None if named is None else tuple(named)


Evaluator = Callable[[Constants], "Sequence[Array] | None"]
EVALUATORS: dict[str, Evaluator] = {}


def evaluate(constants: Constants) -> Sequence[Array] | None:
    """Return the outputs of a node; None where it cannot be computed here."""
    evaluator = EVALUATORS.get(constants.op_type)
    if evaluator is None:
        return None
    try:
        with np.errstate(all="ignore"):
            found = evaluator(constants)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        return None
    return None if found is None else [np.asarray(one) for one in found]


def evaluates(*op_types: str) -> Callable[[Evaluator], Evaluator]:
    """Register the decorated function for operators."""

    def register(evaluator: Evaluator) -> Evaluator:
        for op_type in op_types:
            EVALUATORS[op_type] = evaluator
        return evaluator

    return register


def given(constants: Constants) -> list[Array]:
    """Return the inputs that are there."""
    return [array for array in constants.inputs if array is not None]


_BINARY: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@evaluates(*_BINARY)
def _binary(constants: Constants) -> Sequence[Array] | None:
    first, second = given(constants)
    if constants.opset < 7 and first.shape != second.shape:
        return None  # broadcasting was an attribute then
    return [_BINARY[constants.op_type](first, second)]


@evaluates("Div")
def _div(constants: Constants) -> Sequence[Array] | None:
    first, second = given(constants)
    if constants.opset < 7 and first.shape != second.shape:
        return None
    if first.dtype.kind not in "iu":
        return [np.divide(first, second)]
    if not np.all(second):
        return None  # engines stop here, or do not
    quotient = np.abs(first) // np.abs(second)
    return [np.where((first < 0) != (second < 0), -quotient, quotient).astype(first.dtype)]


@evaluates("Pow")
def _pow(constants: Constants) -> Sequence[Array] | None:
    first, second = given(constants)
    if first.dtype.kind != "f" or second.dtype.kind != "f":
        return None
    return [np.power(first, second).astype(first.dtype)]


@evaluates(
    "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Tanh", "Floor", "Ceil", "Not"
)
def _unary(constants: Constants) -> Sequence[Array] | None:
    (array,) = given(constants)
    if array.dtype.kind not in "fiub":
        return None
    compute: Any = {
        "Neg": np.negative,
        "Abs": np.abs,
        "Sqrt": np.sqrt,
        "Reciprocal": np.reciprocal,
        "Exp": np.exp,
        "Log": np.log,
        "Sin": np.sin,
        "Cos": np.cos,
        "Tanh": np.tanh,
        "Floor": np.floor,
        "Ceil": np.ceil,
        "Not": np.logical_not,
    }[constants.op_type]
    return [compute(array).astype(array.dtype)]


@evaluates("Relu")
def _relu(constants: Constants) -> Sequence[Array]:
    (array,) = given(constants)
    return [np.where(array <= 0, np.zeros_like(array), array)]


@evaluates("Where")
def _where(constants: Constants) -> Sequence[Array]:
    condition, first, second = given(constants)
    return [np.where(condition, first, second).astype(first.dtype)]


@evaluates("Identity")
def _identity(constants: Constants) -> Sequence[Array]:
    return given(constants)


@evaluates("Cast")
def _cast(constants: Constants) -> Sequence[Array] | None:
    (array,) = given(constants)
    target = ir.DataType(constants.get("to"))
    if target is ir.DataType.STRING or array.dtype == object:
        return None
    dtype = target.numpy()
    if dtype.kind in "iu" and array.dtype.kind not in "iub":
        return _float_to_integer(array, dtype)
    plain = "fiub"
    if array.dtype.kind not in plain or dtype.kind not in plain:
        return None  # bfloat16, float8 and four-bit types round and saturate by rules of their own
    return [array.astype(dtype)]


def _float_to_integer(array: Array, dtype: np.dtype[Any]) -> Sequence[Array] | None:
    """Cut the fraction off; what does not fit is undefined, so that it is left to the engine."""
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        return None
    bounds = np.iinfo(dtype)
    cut = np.trunc(array.astype(np.float64))
    if array.size and (cut.min() < bounds.min or cut.max() > bounds.max):
        return None
    return [cut.astype(dtype)]


@evaluates("Transpose")
def _transpose(constants: Constants) -> Sequence[Array]:
    (array,) = given(constants)
    return [array.transpose(constants.get("perm"))]


@evaluates("Reshape")
def _reshape(constants: Constants) -> Sequence[Array] | None:
    array, target = given(constants)
    sizes = [int(size) for size in target]
    if not constants.get("allowzero", 0):
        sizes = [array.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return [array.reshape(sizes)]


@evaluates("Flatten")
def _flatten(constants: Constants) -> Sequence[Array]:
    (array,) = given(constants)
    axis = constants.get("axis", 1)
    axis += array.ndim if axis < 0 else 0
    return [
        array.reshape(
            math.prod(array.shape[:axis]), -1 if array.size else math.prod(array.shape[axis:])
        )
    ]


@evaluates("Squeeze")
def _squeeze(constants: Constants) -> Sequence[Array]:
    array = constants.inputs[0]
    assert array is not None  # noqa: S101 -- the input is not optional
    return [np.squeeze(array, constants.axes(1))]


@evaluates("Unsqueeze")
def _unsqueeze(constants: Constants) -> Sequence[Array] | None:
    array, axes = constants.inputs[0], constants.axes(1)
    return None if array is None or axes is None else [np.expand_dims(array, axes)]


@evaluates("Concat")
def _concat(constants: Constants) -> Sequence[Array]:
    return [np.concatenate(given(constants), constants.get("axis", 1))]


@evaluates("Gather")
def _gather(constants: Constants) -> Sequence[Array] | None:
    array, indices = given(constants)
    axis = constants.get("axis", 0)
    size = array.shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        return None
    return [np.take(array, indices, axis)]


@evaluates("Slice")
def _slice(constants: Constants) -> Sequence[Array] | None:
    array = constants.inputs[0]
    assert array is not None  # noqa: S101 -- the input is not optional
    if len(constants.inputs) > 1:
        starts, ends, axes, steps = (_numbers(constants, index) for index in range(1, 5))
    else:
        starts, ends, axes, steps = (
            constants.get("starts"),
            constants.get("ends"),
            constants.get("axes"),
            None,
        )
    axes = axes or list(range(len(starts or ())))
    steps = steps or [1] * len(axes)
    cuts = [slice(None)] * array.ndim
    for axis, start, end, step in zip(axes, starts or (), ends or (), steps, strict=True):
        if step < 0 and end >= _FAR:
            return None  # ONNX takes nothing; ONNX Runtime reads it as no end
        size = array.shape[axis]
        backwards = slice(max(start, -size), None if end < -size else end, step)
        cuts[axis] = slice(start, end, step) if step > 0 else backwards
    return [array[tuple(cuts)]]


def _numbers(constants: Constants, index: int) -> list[int] | None:
    if index >= len(constants.inputs) or (found := constants.inputs[index]) is None:
        return None
    return [int(number) for number in found]


@evaluates("Split")
def _split(constants: Constants) -> Sequence[Array] | None:
    array = constants.inputs[0]
    assert array is not None  # noqa: S101 -- the input is not optional
    axis, parts = constants.get("axis", 0), _numbers(constants, 1) or constants.get("split")
    if parts is None:
        part = -(-array.shape[axis] // constants.outputs)
        parts = [part] * (constants.outputs - 1)
    else:
        parts = list(parts)[:-1]
    return np.split(array, np.cumsum(parts), axis)


@evaluates("Expand")
def _expand(constants: Constants) -> Sequence[Array]:
    array, shape = given(constants)
    sizes = np.broadcast_shapes(array.shape, tuple(int(size) for size in shape))
    return [np.broadcast_to(array, sizes)]


@evaluates("Tile")
def _tile(constants: Constants) -> Sequence[Array]:
    array, repeats = given(constants)
    return [np.tile(array, repeats)]


@evaluates("ConstantOfShape")
def _constant_of_shape(constants: Constants) -> Sequence[Array]:
    (shape,) = given(constants)
    value = constants.get("value")
    filling = np.zeros(1, np.float32) if value is None else value.numpy()
    return [np.full(tuple(int(size) for size in shape), filling.reshape(()))]


@evaluates("Range")
def _range(constants: Constants) -> Sequence[Array] | None:
    numbers: list[Any] = [array.reshape(()) for array in given(constants)]
    start, limit, step = numbers
    if start.dtype.kind not in "iu":
        count = max(math.ceil((limit - start) / step), 0)
        return [(start + np.arange(count) * step).astype(start.dtype)]
    return [np.arange(start, limit, step, dtype=start.dtype)]


@evaluates("Shape")
def _shape(constants: Constants) -> Sequence[Array]:
    (array,) = given(constants)
    return [np.array(array.shape[constants.get("start", 0) : constants.get("end")], np.int64)]


@evaluates("Trilu")
def _trilu(constants: Constants) -> Sequence[Array]:
    array = constants.inputs[0]
    assert array is not None  # noqa: S101 -- the input is not optional
    offsets = _numbers(
        Constants("", {}, [None if a is None else a.reshape(-1) for a in constants.inputs], 1, 1), 1
    )
    offset = offsets[0] if offsets else 0
    return [np.triu(array, offset) if constants.get("upper", 1) else np.tril(array, offset)]


@evaluates("ReduceProd", "ReduceMax", "ReduceMin")
def _reduce(constants: Constants) -> Sequence[Array] | None:
    array, axes = constants.inputs[0], constants.axes(1)
    if array is None or not array.size or (not axes and constants.get("noop_with_empty_axes", 0)):
        return None
    compute: Any = {"ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMin": np.min}[
        constants.op_type
    ]
    keep = bool(constants.get("keepdims", 1))
    found = compute(array, axis=axes or None, keepdims=keep)
    return [np.asarray(found).astype(array.dtype)]


@evaluates("GatherND")
def _gather_nd(constants: Constants) -> Sequence[Array] | None:
    array, indices = given(constants)
    if constants.get("batch_dims", 0):
        return None
    return [array[tuple(np.moveaxis(indices, -1, 0))]]


@evaluates("GatherElements")
def _gather_elements(constants: Constants) -> Sequence[Array]:
    array, indices = given(constants)
    return [np.take_along_axis(array, indices, constants.get("axis", 0))]


@evaluates("Mod")
def _mod(constants: Constants) -> Sequence[Array] | None:
    first, second = given(constants)
    if first.dtype.kind not in "iu" or constants.get("fmod", 0) or not np.all(second):
        return None
    return [np.mod(first, second)]
