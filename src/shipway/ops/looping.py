"""Loops in references that can be exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["repeat_while"]


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
