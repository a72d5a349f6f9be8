"""Reads a Slice node, in the form of attributes or of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from shipway.graph.building import attribute_of, constant_ints

__all__ = ["TO_THE_END", "Cut", "read_slice"]

TO_THE_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cut:
    """What a Slice takes of one axis."""

    axis: int
    start: int
    end: int
    step: int

    @property
    def is_empty(self) -> bool:
        """Whether it takes nothing, whatever the size of the axis."""
        same_side = (self.start >= 0) == (self.end >= 0)
        return self.step > 0 and same_side and self.start >= self.end


def read_slice(node: ir.Node) -> tuple[Cut, ...] | None:
    """Return what a Slice takes of each axis; None where that is computed."""
    if len(node.inputs) == 1:
        starts, ends = attribute_of(node, "starts"), attribute_of(node, "ends")
        axes, steps = attribute_of(node, "axes"), None
    else:
        starts, ends = constant_ints(node.inputs[1]), constant_ints(node.inputs[2])
        given = [*node.inputs[3:], None, None]
        axes, steps = constant_ints(given[0]), constant_ints(given[1])
        if (given[0] is not None and axes is None) or (given[1] is not None and steps is None):
            return None
    if starts is None or ends is None:
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    return tuple(Cut(*one) for one in zip(axes, starts, ends, steps, strict=True))
