"""What a rule sees of the graph, and how it makes nodes and constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.attributes import has_references
from shipway.graph.facts.dims import Dim
from shipway.graph.facts.fact import Fact, Shape
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.standard import is_standard
from shipway.graph.weights import LazyTensor, SparseTensor

__all__ = ["View"]

_Key = tuple[int, tuple[int, ...], bytes]

_SHARED_BYTES = 4096
_VALUE_BYTES = 24  # what an initializer takes beside its data


class View:
    """A body, the main graph or a function's, with what is known of it.

    A function holds no initializers: there constants are nodes, before all others, and they count.
    So an equal one is read again wherever it stood.

    Args:
        knowledge: The body, and facts about its values.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        """Collect the names that are taken, and a function's constants."""
        self.knowledge = knowledge
        self.body = knowledge.body
        self.library = knowledge.library
        self._names = _names_of(self.body)
        self._shared: dict[_Key, ir.Value] = {}
        self._made: dict[ir.Node, None] = {}
        self._count = 0
        self.spare_bytes = 0
        if self.constants_are_nodes:
            self._note_constants()

    @property
    def constants_are_nodes(self) -> bool:
        """Whether a constant counts as a node: in functions."""
        return self.knowledge.is_function

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.knowledge.opset

    def fact(self, value: ir.Value | None) -> Fact:
        """Return what is known of a value."""
        return self.knowledge.fact(value)

    def shape(self, value: ir.Value | None) -> Shape | None:
        """Return the sizes of a value."""
        return self.knowledge.fact(value).shape

    def content(self, value: ir.Value | None) -> tuple[Dim, ...] | None:
        """Return the numbers of a small vector."""
        return self.knowledge.fact(value).content

    def array(self, value: ir.Value | None) -> NDArray[Any] | None:
        """Return the numbers of a constant."""
        return self.knowledge.array(value)

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is an initializer nobody can override."""
        return self.knowledge.is_constant(value)

    def producer(self, value: ir.Value | None, *op_types: str) -> ir.Node | None:
        """Return the node that computes a value, where it is one of these standard operators.

        None too where one of its attributes is the function's, and so unknown.
        """
        node = None if value is None else value.producer()
        if node is None or not is_standard(node) or node.op_type not in op_types:
            return None
        if has_references(node):
            return None
        return node

    def is_private(self, value: ir.Value) -> bool:
        """Whether exactly one node reads a value, and no caller does."""
        return len(value.uses()) == 1 and not value.is_graph_output()

    def unique_name(self, stem: str) -> str:
        """Return a name that is not taken anywhere in the body."""
        name = stem
        while not name or name in self._names:
            self._count += 1
            name = f"{stem}_{self._count}"
        self._names.add(name)
        return name

    def constant(self, array: NDArray[Any], dtype: ir.DataType | None = None) -> ir.Value:
        """Return an initializer with these numbers; small equal ones are shared."""
        return self.constant_of(
            ir.tensor(np.ascontiguousarray(array).reshape(array.shape), dtype=dtype)
        )

    def constant_of(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return an initializer with the numbers of a tensor; small equal ones are shared."""
        key = _key_of(tensor)
        if key in self._shared:
            return self._register(self._shared[key])
        value = self._initializer(tensor)
        if key is not None:
            self._shared[key] = value
        return value

    def equal_constant(self, value: ir.Value) -> ir.Value | None:
        """Return another constant of the body with the same few numbers, fit to be read anywhere."""
        tensor, producer = self.knowledge.tensor(value), value.producer()
        key = None if tensor is None else _key_of(tensor)
        if key is None or producer is None:
            return None
        if key not in self._shared and producer.graph is self.body:
            self._shared[key] = value
        found = self._shared.get(key)
        return None if found is None or found is value else self._register(found)

    def lazy_constant(self, compute: Any, dtype: ir.DataType, shape: Sequence[int]) -> ir.Value:
        """Return an initializer that is computed when it is read or saved: for large weights."""
        return self._initializer(LazyTensor(compute, None, dtype, tuple(shape)))

    def adopt(self, value: ir.Value) -> None:
        """Make an initializer of a sub-graph one of the body; names are unique throughout."""
        if self.constants_are_nodes and value.const_value is not None:
            self._make_node(value, value.const_value)
        else:
            self.body.register_initializer(value)

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return an int64 vector as an initializer."""
        return self.constant(np.array(numbers, np.int64))

    def _initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        name = self.unique_name("constant")
        tensor.name = name
        if self.constants_are_nodes:
            return self._make_node(ir.Value(name=name), tensor)
        value = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        return self._register(value)

    def _register(self, value: ir.Value) -> ir.Value:
        """Make a value an initializer of the body, also one that was dropped before."""
        node = value.producer()
        if node is not None:
            self._bring_forward(node)
            return value
        if value.const_value is not None and value.const_value.nbytes <= _SHARED_BYTES:
            self.spare_bytes -= value.const_value.nbytes + _VALUE_BYTES
        if value.name not in self.body.initializers:
            self.body.register_initializer(value)
        return value

    def _make_node(self, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
        """Let a Constant node compute a value that nothing computes yet."""
        value.type = value.shape = value.const_value = None
        attribute = ir.AttrTensor("value", tensor)
        node = ir.Node("", "Constant", (), [attribute], outputs=[value], name=value.name)
        self._insert(node)
        self._made[node] = None
        if tensor.nbytes <= _SHARED_BYTES:
            self.spare_bytes -= tensor.nbytes + _VALUE_BYTES
        return value

    def _insert(self, node: ir.Node) -> None:
        first = self._first_computation()
        if first is None:
            self.body.append(node)
        else:
            self.body.insert_before(first, node)

    def _bring_forward(self, node: ir.Node) -> None:
        """Let a Constant of the body stand before all that might read it."""
        if self._first_computation(node) is not None:
            self.body.remove(node)
            self._insert(node)

    def _first_computation(self, node: ir.Node | None = None) -> ir.Node | None:
        """Return the first node that is no Constant; None where `node` stands before it."""
        for one in self.body:
            if one is node:
                return None
            if not is_standard(one, "Constant"):
                return one
        return None

    def _note_constants(self) -> None:
        for node in self.body:
            tensor = self.knowledge.tensor(node.outputs[0]) if node.outputs else None
            key = None if tensor is None else _key_of(tensor)
            if key is not None:
                self._shared.setdefault(key, node.outputs[0])

    def forget_constant(self, value: ir.Value) -> None:
        """Share a Constant's numbers no more: its node leaves the graph."""
        tensor = self.knowledge.tensor(value)
        key = None if tensor is None else _key_of(tensor)
        if key is not None and self._shared.get(key) is value:
            del self._shared[key]

    def is_unused(self, value: ir.Value) -> bool:
        """Whether a value is a constant made for a rule that did nothing with it so far."""
        read = value.uses() or value.is_graph_output()
        return value.producer() in self._made and not read

    def drop_unused_constants(self) -> None:
        """Remove the constants nobody reads that were made as nodes."""
        for node in self._made:
            if node.graph is self.body and self.is_unused(node.outputs[0]):
                self.forget_constant(node.outputs[0])
                self.knowledge.forget(node.outputs[0])
                self.body.remove(node)
        self._made.clear()

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
    ) -> ir.Node:
        """Return a new standard node that is in no graph yet."""
        converted = ir.convenience.convert_attributes(dict(attributes or {}))
        return ir.Node("", op_type, inputs, converted, num_outputs=outputs)


def _key_of(tensor: ir.TensorProtocol) -> _Key | None:
    """Return what tells small tensors apart; None for large ones, texts and sparse ones."""
    is_plain = tensor.dtype is not ir.DataType.STRING and not isinstance(tensor, SparseTensor)
    if not is_plain or tensor.nbytes > _SHARED_BYTES:
        return None
    return int(tensor.dtype), tuple(tensor.shape.numpy()), tensor.tobytes()


def _names_of(body: ir.Graph) -> set[str]:
    names: set[str] = set()
    for graph in (body, *body.subgraphs()):
        names.update(name for name in graph.initializers)
        names.update(value.name for value in graph.inputs if value.name)
        names.update(node.name for node in graph if node.name)
        names.update(value.name for node in graph for value in node.outputs if value.name)
    return names
