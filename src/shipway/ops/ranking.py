"""Sorting in references, so that bodies are right where int64 is computed in int32, too.

OpenVINO computes a graph's int64 in int32, compares integers in float32, and its TopK leaves equal keys
in any order. So keys are not made unique by a product with the number of keys, which passes 2^31 at
46,341 keys; they are replaced by their ranks step by step.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dense_ranks", "stable_order"]

_BLOCK = 1024


def dense_ranks(keys: Tensor) -> Tensor:
    """Number keys in ascending order: 0 for the least; equal keys have the same number.

    Args:
        keys: (n,) int64, none negative.

    Returns:
        (n,) int64.

    Example:
        >>> dense_ranks(torch.tensor([70, 5, 70, 8])).tolist()
        [2, 0, 2, 1]
    """
    order = torch.sort(keys).indices
    ordered = keys[order]
    before = torch.cat((ordered.new_full((1,), -1), ordered))[:-1]
    # A difference of integers is exact; ordered != before is not in float32, beyond 2^24.
    ranks = torch.cumsum((ordered - before != 0).to(torch.int64), 0) - 1
    return torch.zeros_like(ranks).scatter(0, order, ranks)


def stable_order(ranks: Tensor) -> Tensor:
    """Return the indices that sort ranks; equal ranks keep their order.

    Two sorts, whose keys stay below 2^31 up to 1.4 million ranks.

    Args:
        ranks: (n,) int64, none negative, all below n.

    Returns:
        (n,) int64.

    Example:
        >>> stable_order(torch.tensor([2, 0, 2, 0])).tolist()
        [1, 3, 0, 2]
    """
    count = ranks.shape[0]
    position = torch.arange(count, device=ranks.device)
    block = torch.div(position, _BLOCK, rounding_mode="floor")
    coarse = ranks * (count // _BLOCK + 1) + block
    places = dense_ranks(dense_ranks(coarse) * _BLOCK + (position - block * _BLOCK))
    return torch.zeros_like(places).scatter(0, places, position)
