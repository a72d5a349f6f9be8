"""A translation of attention for opsets below 14, where the old exporter has none."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from shipway.tensors import DType, dtype_named

__all__ = ["attention_below_14"]

_OPERATOR = "aten::scaled_dot_product_attention"
_VERSIONS = range(9, 14)
_RANGE_SINCE = 11


@contextlib.contextmanager
def attention_below_14() -> Iterator[None]:
    """Register the translation for the length of the block; a user's own goes before it."""
    from torch.onnx import (
        register_custom_op_symbolic,
        symbolic_helper,
        unregister_custom_op_symbolic,
    )
    from torch.onnx._internal.torchscript_exporter.registration import registry

    parse = symbolic_helper.parse_args("v", "v", "v", "v", "f", "b", "f", "b")
    missing = [item for item in _VERSIONS if not registry.is_registered_op(_OPERATOR, item)]
    for version in missing:
        register_custom_op_symbolic(_OPERATOR, parse(_attend), version)
    try:
        yield
    finally:
        for version in missing:
            unregister_custom_op_symbolic(_OPERATOR, version)


def _attend(  # noqa: PLR0913, PLR0917 -- the signature is torch's
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Write softmax(query key^T scale + mask) value with operators of opset 9.

    Source: torch.nn.functional.scaled_dot_product_attention.
    """
    if dropout_p or enable_gqa:
        raise NotImplementedError("attention with dropout or grouped heads below opset 14")
    rank = len(query.type().varyingSizes())
    axes = [*range(rank - 2), rank - 1, rank - 2]
    scores = g.op("MatMul", query, g.op("Transpose", key, perm_i=axes))
    factor = _usual_scale(g, query) if scale is None else _constant(g, query, scale)
    scores = g.op("Mul", scores, factor)
    if is_causal:
        scores = g.op("Where", _future(g, query, key), _constant(g, query, -math.inf), scores)
    if attn_mask is not None and attn_mask.node().mustBeNone():
        attn_mask = None
    is_bool = attn_mask is not None and str(attn_mask.type().dtype()) == "torch.bool"
    if is_bool:
        scores = g.op("Where", attn_mask, scores, _constant(g, query, -math.inf))
    elif attn_mask is not None:
        scores = g.op("Add", scores, attn_mask)
    weights = g.op("Softmax", scores, axis_i=rank - 1)
    if is_bool:  # a row that is masked throughout gives zeros in torch, and 0/0 here
        weights = g.op("Where", g.op("IsNaN", weights), _constant(g, query, 0.0), weights)
    return g.op("MatMul", weights, value)


def _usual_scale(g: Any, query: Any) -> Any:
    """Return 1 / sqrt(head size), computed in the graph: the tracer rarely knows the size."""
    size = g.op("Cast", _size(g, query, -1), to_i=_dtype(query).onnx)
    return g.op("Reciprocal", g.op("Sqrt", size))


def _dtype(tensor: Any) -> DType:
    return dtype_named(str(tensor.type().dtype()).removeprefix("torch."))


def _size(g: Any, tensor: Any, axis: int) -> Any:
    import torch

    index = len(tensor.type().varyingSizes()) + axis
    position = g.op("Constant", value_t=torch.tensor(index))
    return g.op("Gather", g.op("Shape", tensor), position, axis_i=0)


def _constant(g: Any, like: Any, number: float) -> Any:
    import torch

    return g.op("Constant", value_t=torch.tensor(number, dtype=like.type().dtype()))


def _future(g: Any, query: Any, key: Any) -> Any:
    """Return a boolean matrix that is true where the key lies after the query."""
    import torch

    rows, columns = query.type().varyingSizes()[-2], key.type().varyingSizes()[-2]
    if rows is not None and columns is not None:
        return g.op("Constant", value_t=torch.ones(rows, columns, dtype=torch.bool).triu(1))
    if g.opset < _RANGE_SINCE:
        raise NotImplementedError("causal attention over a dynamic length below opset 11")
    down = g.op("Unsqueeze", _positions(g, query), axes_i=[1])
    return g.op("Less", down, _positions(g, key))


def _positions(g: Any, tensor: Any) -> Any:
    import torch

    first, step = (g.op("Constant", value_t=torch.tensor(number)) for number in (0, 1))
    return g.op("Range", first, _size(g, tensor, -2), step)
