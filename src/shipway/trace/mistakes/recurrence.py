"""Recurrent layers: gates in another order, biases left out, directions swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shipway.trace.mistakes.calls import Call, Mistake, show

__all__ = ["MISTAKES"]

_GATE_ORDERS = {4: ((0, 3, 1, 2), (0, 2, 1, 3), (1, 0, 2, 3), (0, 1, 3, 2)), 3: ((1, 0, 2),)}
"""torch has i f g o and r z n; ONNX i o f c and z r h."""


def _recurrent(gates: int) -> Callable[[Call], Iterator[Mistake]]:
    def mistakes(call: Call) -> Iterator[Mistake]:
        for order in _GATE_ORDERS[gates]:
            title = f"{call.name} with its gates in the order {show(order)}"
            yield call.on("layout", title, "params", _reordered(order))
        if call.arguments["has_biases"]:
            yield call.on("offset", f"{call.name} without its biases", "params", _no_biases)
        if call.arguments["bidirectional"]:
            per_direction = 4 if call.arguments["has_biases"] else 2
            title = f"{call.name} with its directions swapped"
            yield call.on("layout", title, "params", _swapped_directions(per_direction))

    return mistakes


def _reordered(order: tuple[int, ...]) -> Callable[[Any], Any]:
    import torch

    def change(params: Any) -> Any:
        parts = [param.chunk(len(order)) for param in params]
        return [torch.cat([part[at] for at in order]) for part in parts]

    return change


def _no_biases(params: Any) -> Any:
    return [param if param.ndim > 1 else param * 0 for param in params]


def _swapped_directions(count: int) -> Callable[[Any], Any]:
    def change(params: Any) -> Any:
        blocks = [params[at : at + count] for at in range(0, len(params), count)]
        pairs = zip(blocks[1::2], blocks[::2], strict=True)
        return [param for pair in pairs for block in pair for param in block]

    return change


MISTAKES: dict[str, Callable[[Call], Iterator[Mistake]]] = {
    "lstm": _recurrent(4),
    "gru": _recurrent(3),
}
