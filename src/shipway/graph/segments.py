"""Cuts a model into segments that run one after another and compute the same, each in little memory.

It works on the protobuf, not on onnx_ir: segments are made anew for every run, while it goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shipway.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

__all__ = ["Limits", "Segment", "SegmentedGraph", "bodies_of", "infer_types", "inner_names"]

_MEBIBYTE = 1 << 20
_STRING = 8
_OLDEST_IR_VERSION = 4
_ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_WIDEST_BYTES = 8
_MAKE_NO_TENSOR = frozenset(
    {
        "Optional",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceMap",
        "SplitToSequence",
        "ZipMap",
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a segment may grow.

    The defaults are measured: smaller ones cost time (a session takes milliseconds), larger ones
    memory, and time too, which fresh memory takes.

    Args:
        value_bytes: What its nodes compute.
        weight_bytes: What weights they read.
    """

    value_bytes: int = 8 * _MEBIBYTE
    weight_bytes: int = 16 * _MEBIBYTE

    @classmethod
    def within(cls, most_bytes: int, largest_bytes: int) -> Limits:
        """Return limits for a model.

        Args:
            most_bytes: What a run may hold beyond the model; it is kept to where a node lets it.
            largest_bytes: Size of the largest value, of which any run holds several at once.
        """
        usual = cls()
        value_bytes = max(usual.value_bytes, 2 * largest_bytes)
        return cls(
            max(min(value_bytes, most_bytes // 4), 1),
            max(min(usual.weight_bytes, most_bytes // 4), 1),
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes that run together.

    Args:
        start: Index of the first node.
        end: Index behind the last.
        reads: What they read of inputs and of earlier segments.
        makes: What they compute, in order.
        keeps: What of it is read later on, or is an output of the model.
    """

    start: int
    end: int
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    keeps: tuple[str, ...]


class SegmentedGraph:
    """The main graph of a model, ready to be cut.

    Args:
        proto: The model; its nodes are put in order. Large weights may be external.

    Raises:
        ModelError: The graph has a cycle.
    """

    def __init__(self, proto: ModelProto) -> None:
        """Note who makes and who reads what."""
        graph = proto.graph
        self.proto = proto
        self.weights: dict[str, TensorProto] = {one.name: one for one in graph.initializer}
        self._sparse = {one.values.name: one for one in graph.sparse_initializer}
        known = {*self.weights, *self._sparse}
        self.inputs = tuple(one.name for one in graph.input if one.name not in known)
        self.outputs = tuple(one.name for one in graph.output)
        self.nodes = _in_order(graph, {*known, *self.inputs})
        self.reads = [_values_read(node) for node in self.nodes]
        self.types = {
            one.name: one.type for one in (*graph.value_info, *graph.output, *graph.input)
        }
        self.maker = {
            name: index for index, node in enumerate(self.nodes) for name in node.output if name
        }
        self.last_read = {name: index for index, names in enumerate(self.reads) for name in names}
        self.last_read |= dict.fromkeys(self.outputs, len(self.nodes))

    def learn_types(self, types: Mapping[str, TypeProto]) -> None:
        """Take over the types of values of which the file does not say one."""
        for name in (*self.inputs, *self.maker):
            known = self.types.get(name)
            if name in types and (known is None or known.WhichOneof("value") is None):
                self.types[name] = types[name]

    def element_type(self, name: str) -> int:
        """Return the ONNX element type of a tensor; 0 where the file does not say it."""
        kind = self.types.get(name)
        return 0 if kind is None else int(kind.tensor_type.elem_type)

    def is_plain(self, name: str) -> bool:
        """Whether a value is a tensor of numbers, as far as the file says."""
        kind = self.types.get(name)
        if kind is None or kind.WhichOneof("value") is None:
            maker = self.maker.get(name)
            return maker is None or self.nodes[maker].op_type not in _MAKE_NO_TENSOR
        return bool(kind.HasField("tensor_type")) and kind.tensor_type.elem_type != _STRING

    def varying(self) -> set[str]:
        """Return the computed values that need not be the same in every run."""
        found = set(self.inputs)
        for node, reads in zip(self.nodes, self.reads, strict=True):
            is_random = not reads and node.op_type != "Constant"
            if is_random or not found.isdisjoint(reads):
                found.update(filter(None, node.output))
        return found - set(self.inputs)

    def sizes_bytes(self, feeds: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Estimate the size of every value.

        Args:
            feeds: Shape of each input. A size that follows from none of the declared ones is taken
                to be that of the largest value read.
        """
        dims = self._dims(feeds)
        sizes = {name: self._declared_bytes(name, dims) or _WIDEST_BYTES for name in self.inputs}
        for node, reads in zip(self.nodes, self.reads, strict=True):
            largest = max((sizes.get(name, 0) for name in reads), default=_WIDEST_BYTES)
            for name in filter(None, node.output):
                sizes[name] = self._declared_bytes(name, dims) or largest
        return sizes

    def _dims(self, feeds: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, shape in feeds.items():
            if name in self.types:
                dims = self.types[name].tensor_type.shape.dim
                found |= {
                    dim.dim_param: size
                    for dim, size in zip(dims, shape, strict=False)
                    if dim.dim_param
                }
        return found

    def _declared_bytes(self, name: str, dims: Mapping[str, int]) -> int | None:
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        sizes = [
            dim.dim_value if dim.HasField("dim_value") else dims.get(dim.dim_param, -1)
            for dim in kind.tensor_type.shape.dim
        ]
        if min(sizes, default=0) < 0:
            return None
        width = _ELEMENT_BYTES.get(kind.tensor_type.elem_type, _WIDEST_BYTES)
        return max(math.prod(sizes) * width, 1)

    def cut(self, sizes: Mapping[str, int], limits: Limits) -> list[Segment]:
        """Cut into segments.

        Args:
            sizes: Bytes of each value.
            limits: A segment larger than these has one node, or lies between two places where what
                crosses is no tensor of numbers.
        """
        places = self._places(sizes, limits)
        return [self.segment(*ends) for ends in itertools.pairwise(places)]

    def places(self) -> list[int]:
        """Return where a cut can be: before which nodes, the ends included."""
        forbidden = self._forbidden()
        return [index for index in range(len(self.nodes) + 1) if index not in forbidden]

    def _places(self, sizes: Mapping[str, int], limits: Limits) -> list[int]:
        forbidden = self._forbidden()
        places, index = [0], 0
        while index < len(self.nodes):
            place = self._next_place(index, sizes, limits, forbidden)
            places.append(place)
            index = place
        return places

    def _next_place(
        self, start: int, sizes: Mapping[str, int], limits: Limits, forbidden: Collection[int]
    ) -> int:
        values, weights, held = 0, 0, set[str]()
        place, is_full = 0, False
        for index in range(start, len(self.nodes)):
            new = {name for name in self.reads[index] if name in self.weights} - held
            held |= new
            own_weights = sum(_tensor_bytes(self.weights[name]) for name in new)
            own_values = sum(sizes.get(name, 0) for name in self.nodes[index].output)
            values, weights = values + own_values, weights + own_weights
            # A node that adds nothing to what is too much already may come along.
            is_full |= index > start and (
                (own_values > 0 and values > limits.value_bytes)
                or (own_weights > 0 and weights > limits.weight_bytes)
            )
            if index > start and index not in forbidden:
                place = index
            if is_full and place:
                return place
        return len(self.nodes)

    def _forbidden(self) -> set[int]:
        """Return the places where something crosses that cannot be handed on."""
        found: set[int] = set()
        for name, index in self.maker.items():
            if not self.is_plain(name):
                found.update(range(index + 1, self.last_read.get(name, index) + 1))
        return found - {len(self.nodes)}

    def segment(self, start: int, end: int) -> Segment:
        """Return the segment of the nodes from `start` to before `end`."""
        makes = tuple(name for node in self.nodes[start:end] for name in node.output if name)
        own = set(makes)
        reads = dict.fromkeys(
            name
            for names in self.reads[start:end]
            for name in names
            if name not in own and name not in self.weights and name not in self._sparse
        )
        keeps = tuple(name for name in makes if self.last_read.get(name, -1) >= end)
        return Segment(start, end, tuple(reads), makes, keeps)

    def build(
        self,
        segment: Segment,
        feeds: Mapping[str, tuple[int, tuple[int, ...] | None]],
        outputs: Iterable[str],
        forced: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the model of a segment.

        Args:
            segment: Which.
            feeds: ONNX element type and shape of everything that is fed to it.
            outputs: What it shall return.
            forced: Values of the segment and the name of the input that is read in place of each.
        """
        from onnx import ModelProto

        model = ModelProto(ir_version=max(self.proto.ir_version, _OLDEST_IR_VERSION))
        model.opset_import.extend(self.proto.opset_import)
        model.functions.extend(self.proto.functions)
        model.graph.name = self.proto.graph.name or "segment"
        model.graph.node.extend(self.nodes[segment.start : segment.end])
        for name, (element, shape) in feeds.items():
            value = model.graph.input.add(name=name)
            value.type.tensor_type.elem_type = element
            if shape is not None:
                value.type.tensor_type.shape.SetInParent()
                for size in shape:
                    value.type.tensor_type.shape.dim.add(dim_value=size)
        for name in outputs:
            model.graph.output.add(name=name)
        self._add_weights(model, segment)
        for node in model.graph.node if forced else ():
            _rename_reads(node, forced or {})
        return bytes(model.SerializeToString())

    def _add_weights(self, model: ModelProto, segment: Segment) -> None:
        reads = self.reads[segment.start : segment.end]
        for name in dict.fromkeys(name for names in reads for name in names):
            if name in self.weights:
                model.graph.initializer.append(self.weights[name])
            elif name in self._sparse:
                model.graph.sparse_initializer.append(self._sparse[name])


def infer_types(proto: ModelProto) -> dict[str, TypeProto]:
    """Infer the types of the values of a model, as far as its operators are standard ones."""
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(proto)
    except Exception:  # noqa: BLE001 -- RuntimeError and others of C++; nothing depends on it
        return {}
    return {one.name: one.type for one in (*inferred.graph.value_info, *inferred.graph.output)}


def _tensor_bytes(tensor: TensorProto) -> int:
    for entry in tensor.external_data:
        if entry.key == "length":
            return int(entry.value)
    return int(tensor.ByteSize())


def bodies_of(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs a node holds as attributes, not those inside them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def inner_names(node: NodeProto) -> Iterator[str]:
    """Yield the names of what the bodies of a node compute, at any depth."""
    for body in bodies_of(node):
        for one in body.node:
            yield from filter(None, one.output)
            yield from inner_names(one)


def _values_read(node: NodeProto) -> tuple[str, ...]:
    """Return what a node reads of its own graph, in its bodies too."""
    found = dict.fromkeys(filter(None, node.input))
    for body in bodies_of(node):
        found |= dict.fromkeys(_captured(body))
    return tuple(found)


def _captured(body: GraphProto) -> Iterator[str]:
    own = {one.name for one in body.input} | {one.name for one in body.initializer}
    own |= {one.values.name for one in body.sparse_initializer}
    own |= {name for node in body.node for name in node.output}
    for node in body.node:
        yield from (name for name in _values_read(node) if name not in own)
    yield from (one.name for one in body.output if one.name not in own)


def _rename_reads(node: NodeProto, names: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        if name in names:
            node.input[index] = names[name]
    for body in bodies_of(node):
        for one in body.node:
            _rename_reads(one, names)
        for value in body.output:
            value.name = names.get(value.name, value.name)


def _in_order(graph: GraphProto, known: set[str]) -> list[NodeProto]:
    """Return the nodes in an order of execution: the file's where that is one."""
    nodes: list[Any] = list(graph.node)
    ready, waiting = set(known), nodes
    found: list[Any] = []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready for name in _values_read(node)):
                found.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            name = later[0].name or later[0].output[0]
            raise ModelError(
                f"The node '{name}' reads what nothing computes before it: the graph has a cycle, "
                "or lacks a value."
            )
        waiting = later
    return found
