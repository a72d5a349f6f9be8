"""Cuts a model into pieces that run one after another, each with few weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from shipway.graph.facts.inference import infer_graph
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.locating import values_read
from shipway.graph.ordering import sort_graph

__all__ = ["cut_pieces", "weights_bytes"]

_CARRIED = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.DOUBLE,
        ir.DataType.BOOL,
        ir.DataType.INT8,
        ir.DataType.INT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
    }
)
"""What numpy has, so that a value can be handed from one piece to the next."""

_FIRST_IR_WITH_DEFAULTS = 4


def weights_bytes(model: ir.Model) -> int:
    """Return the size of all initializers of a model, those of sub-graphs too."""
    return sum(map(_size_bytes, _initializers(model)))


def cut_pieces(model: ir.Model, most_bytes: int) -> list[ir.Model]:
    """Cut a model into pieces that compute the same when they run in order.

    A cut is made only where every value that crosses it is a tensor of a dtype numpy has; between
    two such places a piece may hold more weights than asked.

    Args:
        model: The model; its nodes are put in order.
        most_bytes: Size of the weights of a piece, if possible.

    Raises:
        ModelError: The graph has a cycle.

    Returns:
        Models that share names, weights and functions with `model`. A piece reads inputs of the
        model and outputs of earlier pieces; the outputs of the model that nodes compute are outputs
        of pieces. Shapes of the values between are left open. Nodes nobody reads may be left out.
    """
    sort_graph(model)
    pieces = _Cutter(model, most_bytes).pieces()
    return [piece for piece in pieces if piece.graph.outputs]


class _Cutter:
    def __init__(self, model: ir.Model, most_bytes: int) -> None:
        self._model = model
        self._most_bytes = most_bytes
        self._knowledge = Knowledge.of_model(model)
        infer_graph(model.graph, self._knowledge)
        self._nodes = list(model.graph)
        self._reads = [tuple(dict.fromkeys(values_read(node))) for node in self._nodes]
        self._last_read = {
            value: index for index, values in enumerate(self._reads) for value in values
        }
        self._last_read |= dict.fromkeys(model.graph.outputs, len(self._nodes))

    def pieces(self) -> Iterator[ir.Model]:
        start, held = 0, 0
        weights: set[ir.Value] = set()
        alive: set[ir.Value] = set()
        for index, node in enumerate(self._nodes):
            new = {one for one in self._reads[index] if one.is_initializer()} - weights
            new_bytes = sum(map(_size_bytes, new))
            alive = {value for value in alive if self._last_read[value] >= index}
            grows = new_bytes > 0 and held + new_bytes > self._most_bytes
            if held and grows and self._can_carry(alive):
                yield self._piece(start, index)
                start, held, weights = index, 0, set()
                new = {one for one in self._reads[index] if one.is_initializer()}
                new_bytes = sum(map(_size_bytes, new))
            weights |= new
            held += new_bytes
            alive |= {value for value in node.outputs if value in self._last_read}
        yield self._piece(start, len(self._nodes))

    def _can_carry(self, values: set[ir.Value]) -> bool:
        return all(self._knowledge.fact(value).dtype in _CARRIED for value in values)

    def _piece(self, start: int, end: int) -> ir.Model:
        nodes = self._nodes[start:end]
        made = {value for node in nodes for value in node.outputs}
        reads = dict.fromkeys(value for values in self._reads[start:end] for value in values)
        weights = [value for value in reads if value.is_initializer()]
        inputs = [value for value in reads if value not in made and not value.is_initializer()]
        outputs = [
            value
            for node in nodes
            for value in node.outputs
            if self._last_read.get(value, -1) >= end
        ]
        whole = self._model.graph
        view = ir.GraphView(
            inputs,
            outputs,
            nodes=nodes,
            initializers=weights,
            opset_imports=whole.opset_imports,
            name=whole.name,
        )
        graph = view.clone()
        self._declare(inputs, graph.inputs)
        self._declare(outputs, graph.outputs)
        return ir.Model(
            graph,
            ir_version=max(self._model.ir_version, _FIRST_IR_WITH_DEFAULTS),
            functions=tuple(self._model.functions.values()),
        )

    def _declare(self, values: Sequence[ir.Value], copies: Sequence[ir.Value]) -> None:
        """Give the ends of a piece the dtypes they really have, and no shape."""
        ends = {*self._model.graph.inputs, *self._model.graph.outputs}
        for value, copy in zip(values, copies, strict=True):
            copy.shape = None
            dtype = self._knowledge.fact(value).dtype
            if dtype is not None and value not in ends:
                copy.type = ir.TensorType(dtype)


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _size_bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes
