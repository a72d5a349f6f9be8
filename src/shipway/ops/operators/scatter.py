"""Values gathered into rows by an index: their sum, mean or largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = [
    "largest_of_rows",
    "scatter_add",
    "scatter_add_op",
    "scatter_max",
    "scatter_max_op",
    "scatter_mean",
    "scatter_mean_op",
]


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def src(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    def index(*shape: int, rows: int = 6) -> Tensor:
        return torch.from_numpy(generator.integers(0, rows, shape))

    usual = {"dim": 0, "dim_size": 6}
    yield Sample("usual", (src(20, 5), index(20)), usual)
    yield Sample("other number", (src(33, 4), index(33)), usual)
    yield Sample("one index a value", (src(4, 11), index(4, 11)), {"dim": -1, "dim_size": 6})
    yield Sample("in the middle", (src(3, 9, 70), index(9)), {"dim": 1, "dim_size": 6})
    yield Sample("as many rows as needed", (src(9, 3), index(9)), {"dim": 0})
    yield Sample("one axis", (src(30), index(30)), usual)
    yield Sample("one value", (src(1, 2), index(1)), usual)
    yield Sample("nothing", (src(0, 3), index(0)), usual)
    hole = src(20, 5)
    hole[3, 1] = torch.nan
    yield Sample("NaN", (hole, index(20)), usual)
    yield Sample("many", (src(2000, 16), index(2000, rows=300)), {"dim": 0, "dim_size": 300})
    yield Sample("for the gradient", (src(5, 2), index(5, rows=3)), usual, gradient=True)


def _spread(src: Tensor, index: Tensor, dim: int, dim_size: int) -> tuple[Tensor, list[Any]]:
    """Return one index for each value, and the shape of the result."""
    dim %= src.dim()
    rows: Any = dim_size
    if dim_size < 0:
        most = torch.cat((index.reshape(-1), index.new_full((1,), -1))).max()
        rows = (most + 1).item()
    if index.dim() != src.dim() or src.dim() == 1:
        sizes = [1] * src.dim()
        sizes[dim] = src.shape[dim]
        index = index.reshape(sizes).expand_as(src)
    shape: list[Any] = list(src.shape)
    shape[dim] = rows
    return index, shape


def _shape(src: Tensor, index: Tensor, dim: int = -1, dim_size: int = -1) -> Tensor:
    del index
    shape: list[Any] = list(src.shape)
    shape[dim] = torch.library.get_ctx().new_dynamic_size() if dim_size < 0 else dim_size
    return src.new_empty(shape)


def _shape_of_pair(
    src: Tensor, index: Tensor, dim: int = -1, dim_size: int = -1
) -> tuple[Tensor, Tensor]:
    values = _shape(src, index, dim, dim_size)
    return values, values.new_empty(values.shape, dtype=torch.int64)


@custom_op(
    "shipway::scatter_add",
    schema="(Tensor src, Tensor index, int dim=-1, int dim_size=-1) -> Tensor",
    types="TI->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
)
def scatter_add_op(src: Tensor, index: Tensor, dim: int = -1, dim_size: int = -1) -> Tensor:
    """Sum values into the rows that an index names.

    Args:
        src: Values of any shape.
        index: (n,) for axis `dim`, or one for each value.
        dim: The axis along which rows are.
        dim_size: Rows of the result; -1 takes as many as the index needs.

    Returns:
        The shape of `src` with `dim_size` rows; 0 where no value goes.

    Source: torch_scatter and DrivingSDK's mx_driving.scatter_add.
    """
    places, shape = _spread(src, index, dim, dim_size)
    return src.new_zeros(shape).scatter_add(dim, places, src)


@custom_op(
    "shipway::scatter_mean",
    schema="(Tensor src, Tensor index, int dim=-1, int dim_size=-1) -> Tensor",
    types="TI->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
)
def scatter_mean_op(src: Tensor, index: Tensor, dim: int = -1, dim_size: int = -1) -> Tensor:
    """Average values into the rows that an index names.

    Args:
        src: Values of any shape.
        index: (n,) for axis `dim`, or one for each value.
        dim: The axis along which rows are.
        dim_size: Rows of the result; -1 takes as many as the index needs.

    Returns:
        The shape of `src` with `dim_size` rows; 0 where no value goes.

    Source: torch_scatter and DrivingSDK's mx_driving.scatter_mean.
    """
    places, shape = _spread(src, index, dim, dim_size)
    total = src.new_zeros(shape).scatter_add(dim, places, src)
    count = src.new_zeros(shape).scatter_add(dim, places, torch.ones_like(src))
    return total / count.clamp(min=1)


@custom_op(
    "shipway::scatter_max",
    schema="(Tensor src, Tensor index, int dim=-1, int dim_size=-1) -> (Tensor, Tensor)",
    types="TI->Tl",
    shape=_shape_of_pair,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
)
def scatter_max_op(
    src: Tensor, index: Tensor, dim: int = -1, dim_size: int = -1
) -> tuple[Tensor, Tensor]:
    """Take the largest value for each row that an index names, and where it was.

    Args:
        src: Values of any shape. A NaN is larger than any number.
        index: (n,) for axis `dim`, or one for each value.
        dim: The axis along which rows are.
        dim_size: Rows of the result; -1 takes as many as the index needs.

    Returns:
        The values, 0 where there is none, and the int64 place of the first of the largest on axis
        `dim`, the size of that axis where there is none. The gradient goes to that place alone.

    Source: torch_scatter and DrivingSDK's mx_driving.scatter_max.
    """
    places, shape = _spread(src, index, dim, dim_size)
    return largest_of_rows(src, places, dim % src.dim(), shape)


def largest_of_rows(
    src: Tensor, places: Tensor, dim: int, shape: Sequence[Any]
) -> tuple[Tensor, Tensor]:
    """Return the largest value of each row and its place, as `scatter_max_op` does.

    Args:
        src: Values of any shape. A NaN is larger than any number.
        places: The row of each value.
        dim: The axis along which rows are, counted from the front.
        shape: That of the result.
    """
    count = src.shape[dim]
    # Numbers and NaNs apart: runtimes differ in which of them is larger.
    missing = torch.isnan(src)
    plain = torch.where(missing, torch.full_like(src, -torch.inf), src).detach()
    best = src.new_full(shape, -torch.inf).scatter_reduce(dim, places, plain, "amax")
    broken = src.new_zeros(shape).scatter_add(dim, places, missing.to(src.dtype)) > 0
    nan_there = torch.gather(broken, dim, places)
    wins = (nan_there & missing) | (~nan_there & (plain == best.gather(dim, places)))
    sizes = [1] * src.dim()
    sizes[dim] = count
    order = torch.arange(count, device=src.device).reshape(sizes).expand_as(src)
    candidates = torch.where(wins, order, torch.full_like(order, count))
    first = order.new_full(shape, count).scatter_reduce(dim, places, candidates, "amin")
    # Taken from its place, so that of equal values only this one has a gradient. The zeros at the
    # end are for rows without a value.
    rest: list[Any] = list(src.shape)
    rest[dim] = 1
    return torch.cat((src, src.new_zeros(rest)), dim).gather(dim, first), first


def _rows(out: Tensor | None, dim: int, dim_size: int | None) -> int:
    return out.shape[dim] if out is not None else -1 if dim_size is None else dim_size


def scatter_add(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """Sum values into rows; see `scatter_add_op`. Argument order of torch_scatter.

    Args:
        src: Values of any shape.
        index: (n,) for axis `dim`, or one for each value.
        dim: The axis along which rows are.
        out: What to add to; it is not changed.
        dim_size: Rows of the result; None takes as many as the index needs.
    """
    found: Tensor = scatter_add_op(src, index, dim, _rows(out, dim, dim_size))
    return found if out is None else out + found


def scatter_mean(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """Average values into rows; see `scatter_mean_op`. Argument order of torch_scatter.

    Args:
        src: Values of any shape.
        index: (n,) for axis `dim`, or one for each value.
        dim: The axis along which rows are.
        out: What to add the sums to before they are divided; it is not changed.
        dim_size: Rows of the result; None takes as many as the index needs.
    """
    rows = _rows(out, dim, dim_size)
    if out is None:
        found: Tensor = scatter_mean_op(src, index, dim, rows)
        return found
    count: Tensor = scatter_add_op(torch.ones_like(src), index, dim, rows)
    total: Tensor = scatter_add_op(src, index, dim, rows)
    return (out + total) / count.clamp(min=1)


def scatter_max(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Take the largest value of each row; see `scatter_max_op`. Argument order of torch_scatter.

    Args:
        src: Values of any shape.
        index: (n,) for axis `dim`, or one for each value.
        dim: The axis along which rows are.
        out: Values that count, too, in place of 0 where there is none; it is not changed.
        dim_size: Rows of the result; None takes as many as the index needs.
    """
    values: Tensor
    places: Tensor
    values, places = scatter_max_op(src, index, dim, _rows(out, dim, dim_size))
    if out is None:
        return values, places
    none = torch.full_like(places, src.shape[dim])
    wins = (places < none) & ~(out >= values)
    return torch.where(wins, values, out), torch.where(wins, places, none)
