"""Brings cosines and sines into the form a rotary embedding takes: half as wide, one by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.facts.dims import Dim
from shipway.graph.facts.fact import Shape
from shipway.graph.patterns import number_of, operands
from shipway.graph.view import View

__all__ = ["Angles", "Rotated"]

_POINTWISE = ("Cos", "Sin", "Cast", "Neg")
_RANK = 4


class Rotated(NamedTuple):
    """What is rotated, and how.

    Args:
        source: A tensor of four dimensions.
        tokens: Which of its dimensions counts the tokens: 2 where heads come first, else 1.
        paired: Whether neighbours are rotated together instead of halves.
    """

    source: ir.Value
    tokens: int
    paired: bool


class Angles:
    """Nodes that make inputs of a rotary embedding; they are in no graph yet.

    Args:
        view: The graph.
        rotated: What they are for.
    """

    def __init__(self, view: View, rotated: Rotated) -> None:
        """Begin without nodes."""
        self._view = view
        self._rotated = rotated
        self._shape: Shape = view.shape(rotated.source) or ()
        self._halves: dict[ir.Value, ir.Value | None] = {}
        self._expanded: dict[ir.Value, ir.Value] = {}
        self._by_batch: set[ir.Value] = set()
        self._sizes: ir.Value | None = None
        self.nodes: list[ir.Node] = []
        self.tables: list[ir.Value] = []
        """Constants of which a half has been copied."""

    @property
    def tokens(self) -> int:
        """Which dimension of the source counts the tokens."""
        return self._rotated.tokens

    def cache(self, value: ir.Value, *, is_wide: bool) -> ir.Value | None:
        """Return cosines or sines as [batch, tokens, size / 2], or None for what is none.

        Args:
            value: What the source is multiplied by: with one head, maybe without heads and batch.
            is_wide: Whether it holds each number twice, once for each part of the source.
        """
        shape, size = self._view.shape(value), self._shape[-1]
        if shape is None or len(shape) > _RANK or not isinstance(size, int) or size % 2:
            return None
        batch, *middle, width = (1,) * (_RANK - len(shape)) + shape
        tokens = self._rotated.tokens - 1
        fits = middle[tokens] == self._shape[tokens + 1] and middle[1 - tokens] == 1
        if (
            not fits
            or batch not in {1, self._shape[0]}
            or width != (size if is_wide else size // 2)
        ):
            return None
        bare, steps = self._peeled(value, len(shape))
        half = self._half(bare, spread=batch != self._shape[0]) if is_wide else bare
        if half is None:
            return None
        half = self._stepped(half, steps)
        if batch == self._shape[0] or half in self._by_batch:
            return half
        return self._for_each_batch(half)

    def _peeled(self, value: ir.Value, rank: int) -> tuple[ir.Value, list[tuple[str, int]]]:
        """Return a value, and the steps from it to three dimensions, the heads left out."""
        heads = 3 - self._rotated.tokens - (_RANK - rank)
        below: list[tuple[str, int]] = [("Unsqueeze", 0)] if rank < _RANK else []
        if heads < 0 or (heads == 0 and rank == 3):
            return value, below if heads < 0 else []
        node = self._view.producer(value, "Unsqueeze")
        axes = None if node is None else self._view.knowledge.integers(node.inputs[1])
        above = None if node is None else node.inputs[0]
        if above is not None and axes is not None and [one % rank for one in axes] == [heads]:
            return above, below
        return value, [("Squeeze", heads), *below]

    def _stepped(self, value: ir.Value, steps: list[tuple[str, int]]) -> ir.Value:
        array = self._view.array(value) if steps else None
        if array is not None:
            self.tables.append(value)
            for op_type, axis in steps:
                change = np.squeeze if op_type == "Squeeze" else np.expand_dims
                array = change(array, axis)
            return self._view.constant(array)
        for op_type, axis in steps:
            value = self._add(op_type, [value, self._view.integers([axis])])
        return value

    def _for_each_batch(self, value: ir.Value) -> ir.Value:
        if value not in self._expanded:
            self._expanded[value] = self._expand(value)
            self._by_batch.add(self._expanded[value])
        return self._expanded[value]

    def _expand(self, value: ir.Value) -> ir.Value:
        view, count = self._view, self._shape[0]
        if isinstance(count, int):
            return self._add("Expand", [value, view.integers([count, 1, 1])])
        if self._sizes is None:
            batch = self._add("Shape", [self._rotated.source], start=0, end=1)
            self._sizes = self._add("Concat", [batch, view.integers([1, 1])], axis=0)
        return self._add("Expand", [value, self._sizes])

    def _add(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        self.nodes.append(self._view.node(op_type, inputs, attributes))
        return self.nodes[-1].outputs[0]

    def _half(self, value: ir.Value | None, *, spread: bool) -> ir.Value | None:
        """Return the numbers of one part, where those of the other part are the same.

        Args:
            value: The cosines, sines or angles.
            spread: Whether angles may be repeated for each batch: then both share one Expand.
        """
        if value is None:
            return None
        if value not in self._halves:
            found = self._constant_half(value)
            self._halves[value] = found or self._computed_half(value, spread=spread)
        return self._halves[value]

    def _constant_half(self, value: ir.Value) -> ir.Value | None:
        array = self._view.array(value)
        if array is None or not array.ndim:
            return None
        first, second = self._parts(array)
        if not np.array_equal(first, second):
            return None
        self.tables.append(value)
        return self._view.constant(first)

    def _parts(self, array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._rotated.paired:
            return array[..., 0::2], array[..., 1::2]
        middle = array.shape[-1] // 2
        return array[..., :middle], array[..., middle:]

    def _computed_half(self, value: ir.Value, *, spread: bool) -> ir.Value | None:
        node = self._view.producer(value, *_POINTWISE, "Mul", "Gather", "Slice")
        if node is None:
            return self._leaf(self._doubled(value), spread=spread)
        tensor, others = node.inputs[0], tuple(node.inputs[1:])
        if node.op_type == "Mul":
            tensor, others = self._scaled(node)
        is_pointwise = node.op_type in {*_POINTWISE, "Mul"}
        if tensor is None or not (is_pointwise or self._keeps_last_axis(node)):
            return None
        half = self._half(tensor, spread=spread and is_pointwise)
        if half is None:
            return None
        attributes = {name: one.value for name, one in node.attributes.items()}
        found = self._add(node.op_type, [half, *others], **attributes)
        if half in self._by_batch:
            self._by_batch.add(found)
        return found

    def _scaled(self, node: ir.Node) -> tuple[ir.Value | None, tuple[ir.Value | None, ...]]:
        """Return the tensor of a product with a number, and the number."""
        for tensor, factor in operands(node):
            same = self._view.shape(tensor) == self._view.shape(node.outputs[0])
            if same and number_of(factor, self._view) is not None:
                return tensor, (factor,)
        return None, ()

    def _keeps_last_axis(self, node: ir.Node) -> bool:
        """Whether a Gather or Slice picks along other axes only."""
        shape = self._view.shape(node.inputs[0])
        if not shape:
            return False
        if node.op_type == "Gather":
            return node.attributes.get_int("axis", 0) % len(shape) != len(shape) - 1
        axes = self._view.knowledge.integers(node.inputs[3]) if len(node.inputs) > 3 else None
        return axes is not None and all(axis % len(shape) != len(shape) - 1 for axis in axes)

    def _doubled(self, value: ir.Value) -> ir.Value | None:
        """Return what a value holds twice: end to end, or each number beside itself."""
        shape = self._view.shape(value) or ()
        if not self._rotated.paired:
            concat = self._view.producer(value, "Concat")
            if concat is None or concat.attributes.get_int("axis", 0) not in {-1, len(shape) - 1}:
                return None
            same = len(concat.inputs) == 2 and concat.inputs[0] is concat.inputs[1]
            return concat.inputs[0] if same else None
        reshape = self._view.producer(value, "Reshape")
        copies = (
            None if reshape is None else self._view.producer(reshape.inputs[0], "Expand", "Tile")
        )
        column = None if copies is None else copies.inputs[0]
        above = self._view.producer(column, "Unsqueeze", "Reshape")
        if copies is None or above is None:
            return None
        single = self._view.shape(above.inputs[0])
        if not single or not _is_doubled(single, shape):
            return None
        rows = (self._view.shape(column), self._view.shape(copies.outputs[0]))
        return above.inputs[0] if rows == ((*single, 1), (*single, 2)) else None

    def _leaf(self, value: ir.Value | None, *, spread: bool) -> ir.Value | None:
        shape = self._view.shape(value)
        tokens, size = self._shape[self._rotated.tokens], self._shape[-1]
        if value is None or not spread or not isinstance(size, int):
            return value
        return self._for_each_batch(value) if shape == (1, tokens, size // 2) else value


def _is_doubled(single: Shape, shape: Shape) -> bool:
    size: Dim = single[-1]
    return isinstance(size, int) and shape == (*single[:-1], 2 * size)
