"""What is known of padded tokens while they spread through a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.building import Splice, constant_tensor, feed
from shipway.graph.edits.weights import changed_weight
from shipway.graph.inferring import Inferred
from shipway.graph.locating import subgraphs_of
from shipway.graph.naming import Names, set_name

__all__ = ["Axes", "Padding"]

Axes = dict[int, bool]
"""The padded axes of a value; True where what was added is zero, False where it may be anything."""

_MASK = -65504.0
"""Added to the scores of new tokens: the lowest float16. Its exponential is zero beside any other."""


class Padding:
    """The state of the edit.

    Args:
        model: The model.
        names: Its names.
        known: Shapes before the edit.
        size: Tokens before.
        padded: Tokens after.
    """

    def __init__(
        self, model: ir.Model, names: Names, known: dict[str, Inferred], size: int, padded: int
    ) -> None:
        """Begin with nothing padded."""
        self.model = model
        self.names = names
        self.size = size
        self.padded = padded
        self.axes: dict[ir.Value, Axes] = {}
        self.masked: list[str] = []
        self.cuts: list[str] = []
        self.changed = 0
        self._known = known
        self._cut: dict[ir.Value, ir.Value] = {}

    def splice(self, node: ir.Node) -> Splice:
        """Return where to put nodes before a node."""
        return Splice(self.model, self.names, node)

    def shape(self, value: ir.Value | None) -> tuple[int | str | None, ...] | None:
        """Return the shape a value had before the edit."""
        one = self._known.get((value.name if value is not None else "") or "")
        return None if one is None else one.shape

    def dtype(self, value: ir.Value) -> ir.DataType:
        """Return the dtype of a value; float32 where it is not known."""
        one = self._known.get(value.name or "")
        return (None if one is None else one.dtype) or value.dtype or ir.DataType.FLOAT

    def begin(self, start: ir.Value, axis: int, node: ir.Node) -> ir.Value:
        """Pad a value with zeros before a node, and return the padded one."""
        shape = self.shape(start) or ()
        axis %= len(shape)
        pads = [0] * 2 * len(shape)
        pads[len(shape) + axis] = self.padded - self.size
        new = self.splice(node).pad(start, pads)
        new.type = ir.TensorType(self.dtype(start))
        self._known[new.name or ""] = self._known[start.name or ""]
        new.shape = ir.Shape(shape)
        self.note(new, {axis: True})
        return new

    def note(self, value: ir.Value, axes: Axes) -> None:
        """Remember which axes of a value are padded, and declare its new shape."""
        if not axes:
            return
        self.axes[value] = axes
        if value.shape is not None:
            sizes = [self.padded if one in axes else size for one, size in enumerate(value.shape)]
            value.shape = ir.Shape(sizes)

    def reads_padded(self, node: ir.Node) -> bool:
        """Whether a node, or a graph inside it, reads a padded value."""
        return any(one in self.axes for one in _read_by(node))

    def pad_constant(self, node: ir.Node, index: int, axis: int, fill: float = 0.0) -> bool:
        """Pad a constant input of a node; False where it is computed."""
        value = node.inputs[index]
        tensor = constant_tensor(value)
        if value is None or tensor is None:
            return False
        shape = tuple(tensor.shape.numpy())
        widths = [(0, self.padded - self.size if one == axis else 0) for one in range(len(shape))]
        longer = tuple(size + extra for size, (_, extra) in zip(shape, widths, strict=True))
        new = changed_weight(
            tensor, lambda array: np.pad(array, widths, constant_values=fill), longer
        )
        padded = self.splice(node).weight(new, f"{value.name}_padded")
        self._known[padded.name or ""] = Inferred(tensor.dtype, self.shape(value) or shape)
        feed(node, index, padded)
        return True

    def mask(self, node: ir.Node, axis: int, rank: int) -> None:
        """Let a Softmax see nothing of the new tokens."""
        source = node.inputs[0]
        if source is None:
            return
        splice = self.splice(node)
        mask = np.zeros(self.padded, self.dtype(source).numpy())
        mask[self.size :] = _MASK
        constant = splice.constant(mask.reshape([-1, *[1] * (rank - axis - 1)]), "token_mask")
        scores = splice.op("Add", [source, constant])
        scores.type, scores.shape = source.type, source.shape
        node.replace_input_with(0, scores)
        self.masked.append(node.name or "")

    def cut_before(self, node: ir.Node) -> None:
        """Let a node read its inputs without the new tokens."""
        for inner in (node, *_inner_nodes(node)):
            for index, value in enumerate(inner.inputs):
                if value in self.axes and value is not None:
                    inner.replace_input_with(index, self._cut_value(value, node))
        self.cuts.append(f"'{node.name}' ({node.op_type})")

    def _cut_value(self, value: ir.Value, node: ir.Node) -> ir.Value:
        if value not in self._cut:
            splice = self.splice(node)
            new = value
            for axis in self.axes[value]:
                new = splice.cut(new, axis, 0, self.size)
            new.type = value.type
            self._known[new.name or ""] = self._known.get(value.name or "", Inferred(None, None))
            self._cut[value] = new
        return self._cut[value]

    def cut_output(self, index: int) -> None:
        """Cut the new tokens off an output of the model; it keeps its name and shape."""
        graph = self.model.graph
        value = graph.outputs[index]
        name = value.name or ""
        new, shape = self._cut_value(value, graph[-1]), self.shape(value)
        set_name(value, self.names.take_value(f"{name}_padded"))
        new.name = name
        new.shape = None if shape is None else ir.Shape(shape)
        graph.outputs[index] = new
        self.cuts.append(f"output '{name}'")


def _read_by(node: ir.Node) -> list[ir.Value | None]:
    return [value for inner in (node, *_inner_nodes(node)) for value in inner.inputs]


def _inner_nodes(node: ir.Node) -> list[ir.Node]:
    return [inner for graph in subgraphs_of(node) for inner in graph.all_nodes()]
