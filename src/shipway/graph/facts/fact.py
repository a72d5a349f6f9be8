"""What is known of one value."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from shipway.graph.facts.dims import Dim

__all__ = ["UNKNOWN", "Fact", "Shape"]

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a value.

    Args:
        dtype: Element type; None where unknown, or where the value is no tensor.
        shape: Sizes; None where even the rank is unknown.
        content: The numbers of an integer or boolean tensor of rank 0 or 1, in order.
    """

    dtype: ir.DataType | None = None
    shape: Shape | None = None
    content: tuple[Dim, ...] | None = None


UNKNOWN = Fact()
