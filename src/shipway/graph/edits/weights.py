"""Weights changed by an edit: computed when they are saved, never held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.weights import LazyTensor

__all__ = ["changed_weight"]


def changed_weight(
    tensor: ir.TensorProtocol,
    compute: Callable[[NDArray[Any]], NDArray[Any]],
    shape: tuple[int, ...],
) -> LazyTensor:
    """Return a weight that is another one, changed; it is computed when it is saved.

    Args:
        tensor: The weight it comes from.
        compute: Takes its numbers to the new ones.
        shape: Shape of the new ones.
    """
    dtype = tensor.dtype.numpy()
    return LazyTensor(
        lambda: compute(tensor.numpy()).astype(dtype), tensor.name, tensor.dtype, shape
    )
