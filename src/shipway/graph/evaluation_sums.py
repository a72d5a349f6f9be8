"""Computes constant nodes that sum or take transcendental functions: an engine rounds otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shipway.graph.evaluation import Array, Constants, evaluates, given

__all__ = ["ROUNDING"]

ROUNDING = frozenset(
    {
        *("Div", "Sqrt", "Reciprocal", "Exp", "Log", "Pow", "Sin", "Cos", "Tanh"),
        *("MatMul", "Gemm", "Softmax", "Sigmoid", "Erf"),
        *("ReduceSum", "ReduceMean", "LayerNormalization"),
    }
)
"""Operators whose floating-point result may differ from an engine's in the last bits."""

_MOST_PRODUCTS = 1 << 31


@evaluates("MatMul")
def _matmul(constants: Constants) -> Sequence[Array] | None:
    first, second = given(constants)
    return _product(first, second)


def _product(first: Array, second: Array) -> Sequence[Array] | None:
    """Multiply matrices of floats, in float64 where they are shorter; large ones stay."""
    if first.dtype.kind != "f" or first.size * second.shape[-1] > _MOST_PRODUCTS:
        return None
    wide = np.float64 if first.dtype != np.float64 else first.dtype
    return [np.matmul(first.astype(wide), second.astype(wide)).astype(first.dtype)]


@evaluates("Gemm")
def _gemm(constants: Constants) -> Sequence[Array] | None:
    first, second, *rest = given(constants)
    found = _product(
        first.T if constants.get("transA", 0) else first,
        second.T if constants.get("transB", 0) else second,
    )
    if found is None or constants.get("alpha", 1.0) != 1.0 or constants.get("beta", 1.0) != 1.0:
        return None
    return [found[0] + rest[0]] if rest else found


@evaluates("Softmax")
def _softmax(constants: Constants) -> Sequence[Array] | None:
    (array,) = given(constants)
    axis = constants.get("axis", -1)
    last = array.ndim - 1
    if array.dtype.kind != "f" or (constants.opset < 13 and axis not in {-1, last}):
        return None  # before opset 13 it flattened
    if constants.opset < 13 and "axis" not in constants.attributes and last != 1:
        return None
    wide = array.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=axis, keepdims=True))
    return [(powers / powers.sum(axis=axis, keepdims=True)).astype(array.dtype)]


@evaluates("Sigmoid")
def _sigmoid(constants: Constants) -> Sequence[Array] | None:
    (array,) = given(constants)
    if array.dtype.kind != "f":
        return None
    return [(1 / (1 + np.exp(-array.astype(np.float64)))).astype(array.dtype)]


@evaluates("Erf")
def _erf(constants: Constants) -> Sequence[Array] | None:
    from scipy.special import erf

    (array,) = given(constants)
    return None if array.dtype.kind != "f" else [erf(array).astype(array.dtype)]


@evaluates("Clip")
def _clip(constants: Constants) -> Sequence[Array] | None:
    array = constants.inputs[0]
    if array is None or array.dtype.kind not in "fiu":
        return None
    low, high = (_bound(constants, index) for index in (1, 2))
    found = array if low is None else np.where(array < low, low, array)
    found = found if high is None else np.where(found > high, high, found)
    return [found.astype(array.dtype)]


def _bound(constants: Constants, index: int) -> Any:
    if len(constants.inputs) > index and constants.inputs[index] is not None:
        return constants.inputs[index]
    return constants.get(("", "min", "max")[index])


@evaluates("ReduceSum", "ReduceMean")
def _reduce(constants: Constants) -> Sequence[Array] | None:
    array, axes = constants.inputs[0], constants.axes(1)
    if array is None or not array.size or array.dtype.kind != "f":
        return None
    if not axes and constants.get("noop_with_empty_axes", 0):
        return None
    compute: Any = {"ReduceSum": np.sum, "ReduceMean": np.mean}[constants.op_type]
    keep = bool(constants.get("keepdims", 1))
    found = compute(array.astype(np.float64), axis=axes or None, keepdims=keep)
    return [np.asarray(found).astype(array.dtype)]


@evaluates("LayerNormalization")
def _layer_normalization(constants: Constants) -> Sequence[Array] | None:
    array, scale, *rest = given(constants)
    if constants.outputs != 1 or array.dtype.kind != "f":
        return None
    axis = constants.get("axis", -1)
    axes = tuple(range(axis % array.ndim, array.ndim))
    wide = array.astype(np.float64)
    centred = wide - wide.mean(axis=axes, keepdims=True)
    variance = (centred**2).mean(axis=axes, keepdims=True)
    found = centred / np.sqrt(variance + constants.get("epsilon", 1e-5)) * scale
    return [(found + rest[0] if rest else found).astype(array.dtype)]
