"""What a rule sees of the graph, and how it makes nodes and constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.facts.dims import Dim
from shipway.graph.facts.fact import Fact, Shape
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.standard import is_standard
from shipway.graph.weights import LazyTensor

__all__ = ["View"]

_SHARED_BYTES = 4096
_VALUE_BYTES = 24  # what an initializer takes beside its data


class View:
    """A model's graph with what is known of it.

    Args:
        model: The model.
        knowledge: Facts about its values.
    """

    def __init__(self, model: ir.Model, knowledge: Knowledge) -> None:
        """Collect the names that are taken."""
        self.model = model
        self.knowledge = knowledge
        self._names = _names_of(model)
        self._node_names = {node.name for graph in model.graphs() for node in graph}
        self._shared: dict[tuple[int, tuple[int, ...], bytes], ir.Value] = {}
        self._count = 0
        self._made: list[ir.Node] = []
        self.spare_bytes = 0

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
        """Return the node that computes a value, where it is one of these standard operators."""
        node = None if value is None else value.producer()
        if node is None or not is_standard(node) or node.op_type not in op_types:
            return None
        return node

    def is_private(self, value: ir.Value) -> bool:
        """Whether exactly one node reads a value, and no caller does."""
        return len(value.uses()) == 1 and not value.is_graph_output()

    def unique_name(self, stem: str) -> str:
        """Return a name that is not taken anywhere in the model."""
        name = stem
        while not name or name in self._names:
            self._count += 1
            name = f"{stem}_{self._count}"
        self._names.add(name)
        return name

    def unique_node_name(self, stem: str) -> str:
        """Return a name that no node of the model has."""
        name, count = stem, 0
        while name in self._node_names:
            count += 1
            name = f"{stem}_{count}"
        self._node_names.add(name)
        return name

    def constant(self, array: NDArray[Any], dtype: ir.DataType | None = None) -> ir.Value:
        """Return an initializer with these numbers; small equal ones are shared."""
        return self.constant_of(
            ir.tensor(np.ascontiguousarray(array).reshape(array.shape), dtype=dtype)
        )

    def constant_of(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return an initializer with the numbers of a tensor; small equal ones are shared."""
        key = None
        if tensor.nbytes <= _SHARED_BYTES:
            key = (int(tensor.dtype), tuple(tensor.shape.numpy()), tensor.tobytes())
            if key in self._shared:
                return self._register(self._shared[key])
        value = self._initializer(tensor)
        if key is not None:
            self._shared[key] = value
        return value

    def lazy_constant(self, compute: Any, dtype: ir.DataType, shape: Sequence[int]) -> ir.Value:
        """Return an initializer that is computed when it is read or saved: for large weights."""
        return self._initializer(LazyTensor(compute, None, dtype, tuple(shape)))

    def adopt(self, value: ir.Value) -> None:
        """Make an initializer of a sub-graph one of the main graph; names are unique throughout."""
        self.model.graph.register_initializer(value)

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return an int64 vector as an initializer."""
        return self.constant(np.array(numbers, np.int64))

    def _initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        name = self.unique_name("constant")
        tensor.name = name
        value = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        return self._register(value)

    def _register(self, value: ir.Value) -> ir.Value:
        """Make a value an initializer of the main graph, also one that was dropped before."""
        if value.const_value is not None and value.const_value.nbytes <= _SHARED_BYTES:
            self.spare_bytes -= value.const_value.nbytes + _VALUE_BYTES
        if value.name not in self.model.graph.initializers:
            self.model.graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
        domain: str = "",
    ) -> ir.Node:
        """Return a new node, a standard one if not said otherwise, that is in no graph yet."""
        converted = ir.convenience.convert_attributes(dict(attributes or {}))
        node = ir.Node(domain, op_type, inputs, converted, num_outputs=outputs)
        self._made.append(node)
        return node

    def release_unused(self) -> None:
        """Let new nodes that came into no graph read nothing: a value knows all that read it."""
        for node in self._made:
            if node.graph is None:
                for index in range(len(node.inputs)):
                    node.replace_input_with(index, None)
        self._made.clear()


def _names_of(model: ir.Model) -> set[str]:
    names: set[str] = set()
    for graph in model.graphs():
        names.update(name for name in graph.initializers)
        names.update(value.name for value in graph.inputs if value.name)
        names.update(value.name for node in graph for value in node.outputs if value.name)
    return names
