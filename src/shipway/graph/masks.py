"""Makes masks fit for operators that compute attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.facts.fact import Shape
from shipway.graph.view import View

__all__ = ["Mask", "MaskTerms"]

_RANK = 4
_LOWEST = np.finfo(np.float32).min
_MOVES = ("Unsqueeze", "Expand", "Reshape", "Slice", "Transpose", "Squeeze")


class MaskTerms(NamedTuple):
    """Where an operator makes something else of a mask than adding it to the scores.

    Args:
        hidden: Whether a row that is wholly minus infinity comes out as it should.
        lowest: Whether the lowest number is taken for minus infinity.
    """

    hidden: bool
    lowest: bool


class Mask:
    """Makes a mask fit for the operator.

    Args:
        nodes: Where to put new nodes.
        view: The graph.
        terms: What the operator makes of it; None: the same as the nodes, whatever the mask is.
    """

    def __init__(self, nodes: list[ir.Node], view: View, terms: MaskTerms | None) -> None:
        """Begin."""
        self._nodes = nodes
        self._view = view
        self._terms = terms

    def fitted(self, mask: ir.Value, query: ir.Value, sizes: Shape) -> ir.Value | None:
        """Return the mask with a row for each query, or None for one that may hide too much."""
        shape = self._view.shape(mask)
        if shape is None or not 2 <= len(shape) <= _RANK or shape[-1] != sizes[3]:
            return None
        if self._view.fact(mask).dtype is not ir.DataType.FLOAT:
            return None
        leading = zip(reversed(shape[:-2]), reversed(sizes[:2]), strict=False)
        if any(dim not in {1, size} for dim, size in leading) or shape[-2] not in {1, sizes[2]}:
            return None
        found = mask if self._terms is None else self._without_lowest(mask, rows=True)
        if found is None or shape[-2] == sizes[2]:
            return found
        count = self._add("Shape", [query], start=2, end=3)
        inputs = [count, self._view.integers([1])]
        return self._add("Expand", [found, self._add("Concat", inputs, axis=0)])

    def _without_lowest(self, mask: ir.Value | None, *, rows: bool) -> ir.Value | None:
        array = self._view.array(mask)
        if array is not None:
            return self._constant(mask, array, rows=rows)
        node = self._view.producer(mask, "Where", *_MOVES)
        if node is None:
            return None
        places = [1, 2] if node.op_type == "Where" else [0]
        inputs = list(node.inputs)
        for place in places:
            inputs[place] = self._without_lowest(inputs[place], rows=False)
        if any(inputs[place] is None for place in places):
            return None
        if inputs == list(node.inputs):
            return mask
        attributes = {name: one.value for name, one in node.attributes.items()}
        return self._add(node.op_type, inputs, **attributes)

    def _constant(
        self, value: ir.Value | None, array: NDArray[Any], *, rows: bool
    ) -> ir.Value | None:
        """Take numbers of which no row is hidden, alone or by the choice of a Where."""
        hides = np.isneginf(array)
        hidden = (hides.all(-1) if rows else hides).any()
        terms = self._terms or MaskTerms(hidden=True, lowest=False)
        if (hidden and not terms.hidden) or np.isnan(array).any():
            return None
        if not terms.lowest or not (array == _LOWEST).any():
            return value
        neighbour = np.nextafter(_LOWEST, np.float32(0))
        return self._view.constant(np.where(array == _LOWEST, neighbour, array))

    def _add(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        self._nodes.append(self._view.node(op_type, inputs, attributes))
        return self._nodes[-1].outputs[0]
