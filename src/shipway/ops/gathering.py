"""What references have in common: pixels read at places between them, loops that can be exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["bilinear", "repeat_while"]


def bilinear(
    planes: Tensor, y: Tensor, x: Tensor, height: int | Tensor, width: int | Tensor
) -> Tensor:
    """Read planes at places between pixels; a corner outside counts nothing.

    A place a pixel or more outside, NaN or infinite gives 0, and no gradient.

    Args:
        planes: (n, channels, height * width).
        y: (n, places), in pixels; 0 is the centre of the first row.
        x: (n, places).
        height: Rows.
        width: Columns.

    Returns:
        (n, channels, places).
    """
    inside = (y > -1) & (x > -1) & (y < height) & (x < width)
    y, x = (torch.where(inside, place, torch.zeros_like(place)) for place in (y, x))
    top, left = torch.floor(y), torch.floor(x)
    channels = planes.shape[1]
    total: Tensor | None = None
    for down in (0, 1):
        for right in (0, 1):
            row, column = top + down, left + right
            counts = inside & (row >= 0) & (column >= 0) & (row < height) & (column < width)
            weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
            index = row.to(torch.int64) * width + column.to(torch.int64)
            index = torch.where(counts, index, torch.zeros_like(index))
            pixels = torch.gather(planes, 2, index[:, None].expand(-1, channels, -1))
            part = pixels * weight[:, None]
            part = torch.where(counts[:, None], part, torch.zeros_like(part))
            total = part if total is None else total + part
    if total is None:
        raise AssertionError("four corners")
    return total


def repeat_while(
    condition: Callable[..., Tensor], body: Callable[..., tuple[Tensor, ...]], *carried: Any
) -> Sequence[Any]:
    """Repeat a body as long as a condition holds: an ONNX Loop when exported, else a plain loop.

    Args:
        condition: Of the carried tensors; a scalar bool tensor.
        body: Gives the next carried tensors, none of them one of those it got.
        carried: Tensors to begin with.
    """
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.while_loop import while_loop

        return tuple(while_loop(condition, body, carried))
    while bool(condition(*carried)):
        carried = body(*carried)
    return carried
