"""Which mistakes are usual with which operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shipway.trace.mistakes import (
    activations,
    attention,
    axes,
    norms,
    operands,
    recurrence,
    windows,
)
from shipway.trace.mistakes.calls import Call, Mistake

__all__ = ["usual_mistakes"]

_TABLES = tuple(
    module.MISTAKES
    for module in (norms, activations, axes, operands, attention, windows, recurrence)
)


def usual_mistakes(node: Any) -> Iterator[Mistake]:
    """Yield other ways to compute a node that give a tensor of the same shape.

    Args:
        node: A torch.fx node of an exported program, with what torch.export knows of its shape.
    """
    call = Call.of(node)
    if call is None:
        yield from operands.taken_out(node)
        return
    for table in _TABLES:
        if call.name in table:
            yield from table[call.name](call)
