"""Finds queries, keys and values as they were before their heads were moved to the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from shipway.graph.facts.fact import Shape
from shipway.graph.view import View

__all__ = ["SideBySide"]

_RANK = 4
_FIRST_SPLIT_WITH_INPUT = 13


class SideBySide:
    """Nodes that give tensors with their heads side by side; they are in no graph yet.

    Args:
        view: The graph.
    """

    def __init__(self, view: View) -> None:
        """Begin without nodes."""
        self._view = view
        self._flat: dict[ir.Value, ir.Value] = {}
        self._splits: dict[ir.Value, ir.Node] = {}
        self.nodes: list[ir.Node] = []

    @property
    def is_packed(self) -> bool:
        """Whether queries, keys and values were moved together, by one Transpose."""
        return bool(self._splits)

    def joined(self, value: ir.Value | None, shape: Shape) -> ir.Value | None:
        """Return [batch, tokens, heads * size] for [batch, heads, tokens, size], or None.

        Cases: heads moved by a Transpose; queries, keys and values moved together and taken apart;
        a rotary embedding behind either.

        Args:
            value: The tensor.
            shape: Its sizes.
        """
        if value is None or len(shape) != _RANK:
            return None
        rotary = self._view.producer(value, "RotaryEmbedding")
        if rotary is not None:
            return self._rotated(rotary, shape)
        transpose = self._view.producer(value, "Transpose")
        if transpose is not None:
            apart = transpose.inputs[0] if _order(transpose) == [0, 2, 1, 3] else None
            return None if apart is None else self._side_by_side(apart)
        return self._piece(value, shape)

    def _rotated(self, rotary: ir.Node, shape: Shape) -> ir.Value | None:
        source = self.joined(rotary.inputs[0], shape)
        if source is None or not isinstance(shape[1], int):
            return None
        attributes = {name: one.value for name, one in rotary.attributes.items()}
        inputs = [source, *rotary.inputs[1:]]
        return self._add("RotaryEmbedding", inputs, **attributes | {"num_heads": shape[1]})

    def _side_by_side(self, apart: ir.Value) -> ir.Value | None:
        """Join the last dimensions of [batch, tokens, ..., heads, size]."""
        width = 1
        for dim in (self._view.shape(apart) or ())[2:]:
            if not isinstance(dim, int) or dim == 0:
                return None
            width *= dim
        if apart not in self._flat:
            target = self._view.integers([0, 0, width])
            self._flat[apart] = self._add("Reshape", [apart, target])
        return self._flat[apart]

    def _piece(self, value: ir.Value, shape: Shape) -> ir.Value | None:
        """Find a piece of what a Transpose brought into the order piece, batch, heads, tokens, size."""
        squeeze = self._view.producer(value, "Squeeze", "Reshape")
        piece = None if squeeze is None else squeeze.inputs[0]
        split = self._view.producer(piece, "Split")
        moved = None if split is None else self._view.producer(split.inputs[0], "Transpose")
        apart = None if moved is None else moved.inputs[0]
        if piece is None or split is None or moved is None or apart is None:
            return None
        pieces = [self._view.shape(one) for one in split.outputs]
        if _order(moved) != [2, 0, 3, 1, 4] or any(one != (1, *shape) for one in pieces):
            return None
        if apart not in self._splits:
            joined = self._side_by_side(apart)
            if joined is None:
                return None
            self._splits[apart] = self._split(joined, shape, len(pieces))
        return self._splits[apart].outputs[list(split.outputs).index(piece)]

    def _split(self, joined: ir.Value, shape: Shape, count: int) -> ir.Node:
        width = shape[1] * shape[3]  # type: ignore[operator]  # both are integers where they were joined
        sizes: list[int] = [width] * count
        if self._view.opset < _FIRST_SPLIT_WITH_INPUT:
            attributes = {"axis": 2, "split": sizes}
            split = self._view.node("Split", [joined], attributes, outputs=count)
        else:
            inputs = [joined, self._view.integers(sizes)]
            split = self._view.node("Split", inputs, {"axis": 2}, outputs=count)
        self.nodes.append(split)
        return split

    def _add(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        self.nodes.append(self._view.node(op_type, inputs, attributes))
        return self.nodes[-1].outputs[0]


def _order(transpose: ir.Node) -> list[int]:
    return list(transpose.attributes.get_ints("perm") or ())
