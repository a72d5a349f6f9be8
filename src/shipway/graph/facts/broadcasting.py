"""The shape of several tensors broadcast together."""

from __future__ import annotations

from collections.abc import Iterable

from shipway.graph.facts.dims import Dim
from shipway.graph.facts.fact import Shape
from shipway.graph.facts.knowledge import Knowledge

__all__ = ["broadcast"]


def broadcast(shapes: Iterable[Shape | None], knowledge: Knowledge) -> Shape | None:
    """Return the broadcast shape; None where one is unknown.

    Two different named sizes may be equal or 1 at run time, so that they make a new one.
    """
    found: list[Dim] = []
    for shape in shapes:
        if shape is None:
            return None
        found[:0] = [1] * (len(shape) - len(found))
        start = len(found) - len(shape)
        for index, dim in enumerate(shape, start):
            found[index] = _together(found[index], dim, knowledge)
    return tuple(found)


def _together(first: Dim, second: Dim, knowledge: Knowledge) -> Dim:
    if second in {1, first}:
        return first
    if first == 1 or isinstance(second, int):
        return second
    return first if isinstance(first, int) else knowledge.fresh()
