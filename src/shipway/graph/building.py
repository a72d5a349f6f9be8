"""Puts new nodes into a graph in the place of old ones, with names, types and metadata kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.locating import all_nodes
from shipway.graph.naming import Names, set_name
from shipway.graph.standard import is_standard

__all__ = [
    "Splice",
    "add_initializer",
    "attribute_of",
    "carry_metadata",
    "constant_array",
    "constant_ints",
    "constant_tensor",
    "drop_unused",
    "feed",
    "is_output",
    "nodes_of_type",
    "only_user",
    "put_in_place",
    "tensor_of_node",
]

_LARGEST_READ_BYTES = 1 << 20


def constant_array(value: ir.Value | None, *, limit_bytes: int = _LARGEST_READ_BYTES) -> Any:
    """Return the numbers of a constant up to a size, and None for everything else.

    An initializer that is a graph input too is no constant: the caller may override it.
    """
    tensor = constant_tensor(value)
    if tensor is None or tensor.nbytes > limit_bytes:
        return None
    return tensor.numpy()


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of a constant, unread; None for every other value."""
    if value is None or value.is_graph_input():
        return None
    return value.const_value if value.is_initializer() else tensor_of_node(value.producer())


def tensor_of_node(node: ir.Node | None) -> ir.TensorProtocol | None:
    """Return the tensor a Constant node holds; None for every other node, and for texts."""
    if node is None or node.op_type != "Constant" or not is_standard(node):
        return None
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if name == "value":
            return attribute.as_tensor()
        if name in {"value_int", "value_ints"}:
            return ir.tensor(np.asarray(attribute.value, np.int64))
        if name in {"value_float", "value_floats"}:
            return ir.tensor(np.asarray(attribute.value, np.float32))
    return None


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """Return the integers of a constant of up to one dimension; None for everything else."""
    array = constant_array(value)
    if array is None or array.ndim > 1 or array.dtype.kind not in "iu":
        return None
    return [int(one) for one in np.atleast_1d(array)]


def is_output(value: ir.Value) -> bool:
    """Whether a value is an output of its graph, sub-graph or function."""
    return value.is_graph_output()


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value once, if nothing else does."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not is_output(value) else None


def carry_metadata(old: Iterable[ir.Node], new: ir.Node) -> None:
    """Give a node the metadata of those it replaces; where they differ, the last one's."""
    for node in old:
        new.metadata_props.update(node.metadata_props)
        new.doc_string = node.doc_string or new.doc_string


def add_initializer(model: ir.Model, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Add an initializer to the main graph under a free name."""
    tensor.name = name
    value = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        const_value=tensor,
    )
    model.graph.initializers[name] = value
    return value


def put_in_place(old: ir.Value, new: ir.Value, names: Names, *, fresh: bool = False) -> None:
    """Let everything that reads `old` read `new`; an output of the graph keeps its name.

    Args:
        old: The value that goes.
        new: The value that takes its place.
        names: The names the model has taken.
        fresh: `new` was made for this place, so it takes the name, type and shape of `old` too.
    """
    new.type = new.type or old.type
    if fresh or is_output(old):
        new.shape = new.shape or old.shape
    if fresh:
        new.metadata_props.update(old.metadata_props)
    if is_output(old):
        new = _as_output(old, new, names)
    elif fresh:
        _swap_name(old, new, names)
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _as_output(old: ir.Value, new: ir.Value, names: Names) -> ir.Value:
    """Return a value that can be the output `old` was: named like it, computed by a node."""
    source, producer = new, old.producer()
    if new.producer() is None or is_output(new) or new.graph is not old.graph:
        identity = ir.node("Identity", [new], name=names.take_node(f"{old.name}_output"))
        if producer is not None and producer.graph is not None:
            carry_metadata([producer], identity)
            producer.graph.insert_after(producer, identity)
        source = identity.outputs[0]
        source.type, source.shape = old.type, old.shape
    _swap_name(old, source, names)
    return source


def _swap_name(old: ir.Value, new: ir.Value, names: Names) -> None:
    name = old.name
    set_name(old, names.take_value(f"{name}_replaced"))
    new.name = name


def drop_unused(nodes: Iterable[ir.Node]) -> int:
    """Remove those of some nodes that nothing reads, then what only they read; count them."""
    pending = list(nodes)
    count = 0
    while pending:
        node = pending.pop()
        graph = node.graph
        if graph is None or any(one.uses() or is_output(one) for one in node.outputs):
            continue
        sources = [value for value in node.inputs if value is not None]
        graph.remove(node, safe=True)
        count += 1
        for value in sources:
            producer = value.producer()
            if producer is not None:
                pending.append(producer)
            elif not value.uses() and not value.is_graph_input():
                _drop_initializer(value)
    return count


def feed(node: ir.Node, index: int, value: ir.Value) -> None:
    """Let an input of a node read another value, and remove what nothing reads any more."""
    old = node.inputs[index]
    node.replace_input_with(index, value)
    producer = None if old is None else old.producer()
    if producer is not None:
        drop_unused([producer])
    elif old is not None and not old.uses() and not old.is_graph_input():
        _drop_initializer(old)


def nodes_of_type(model: ir.Model, *op_types: str) -> list[ir.Node]:
    """Return the nodes of the default domain with one of some types, in every graph."""
    return [node for node in all_nodes(model) if node.op_type in op_types and is_standard(node)]


def attribute_of(node: ir.Node, name: str, default: Any = None) -> Any:
    """Return the value of an attribute as Python value; the default where it is not set."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    if attribute.is_ref():
        return None
    return list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value


def _drop_initializer(value: ir.Value) -> None:
    graph = value.graph
    if graph is not None and value.name is not None and not is_output(value):
        graph.initializers.pop(value.name, None)


class Splice:
    """Nodes that are put before a given one, named and annotated after the ones they replace.

    Args:
        model: The model.
        names: Its names; one set for a whole edit.
        anchor: The node before which the new ones go.
        like: Nodes whose metadata the new ones get; the anchor if not given.
    """

    def __init__(
        self, model: ir.Model, names: Names, anchor: ir.Node, like: Sequence[ir.Node] = ()
    ) -> None:
        """Keep where the nodes go."""
        self.model = model
        self.names = names
        self._anchor = anchor
        self._like = tuple(like) or (anchor,)
        self._made: set[ir.Value] = set()

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        like: Sequence[ir.Node] = (),
    ) -> ir.Value:
        """Add a node with one output, and return that.

        Args:
            op_type: Operator of the default domain.
            inputs: What it reads.
            attributes: As Python values.
            like: Nodes whose metadata it gets, if not those of the splice.
        """
        return self.ops(op_type, inputs, 1, attributes, like=like)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        count: int,
        attributes: Mapping[str, Any] | None = None,
        *,
        like: Sequence[ir.Node] = (),
    ) -> Sequence[ir.Value]:
        """Add a node with several outputs, and return them."""
        like = like or self._like
        stem = like[-1].name or like[-1].op_type
        name = self.names.take_node(f"{stem}/{op_type}")
        node = ir.node(op_type, inputs, dict(attributes or {}), num_outputs=count, name=name)
        for value in node.outputs:
            value.name = self.names.take_value(f"{name}_output")
        carry_metadata(like, node)
        graph = self._anchor.graph
        assert graph is not None, "a splice needs an anchor that is in a graph"  # noqa: S101
        graph.insert_before(self._anchor, node)
        self._made.update(node.outputs)
        return node.outputs

    def constant(self, array: NDArray[Any], stem: str = "constant") -> ir.Value:
        """Add a constant: an initializer of the main graph, or a node where functions have none."""
        return self.weight(ir.tensor(array), stem)

    def ints(self, *numbers: int) -> ir.Value:
        """Add a constant of 64-bit integers in one dimension."""
        return self.constant(np.array(numbers, np.int64), "ints")

    def weight(self, tensor: ir.TensorProtocol, stem: str) -> ir.Value:
        """Add a constant whose numbers may be computed later."""
        if self._anchor.graph in set(self.model.graphs()):
            return add_initializer(self.model, self.names.take_value(stem), tensor)
        value = self.op("Constant", [], {"value": ir.AttrTensor("value", tensor)})
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        return value

    def unsqueeze(self, value: ir.Value, axis: int, *, like: Sequence[ir.Node] = ()) -> ir.Value:
        """Add an Unsqueeze, in the form of the model's opset."""
        return self._with_axes("Unsqueeze", value, axis, like)

    def squeeze(self, value: ir.Value, axis: int, *, like: Sequence[ir.Node] = ()) -> ir.Value:
        """Add a Squeeze, in the form of the model's opset."""
        return self._with_axes("Squeeze", value, axis, like)

    def _with_axes(
        self, op_type: str, value: ir.Value, axis: int, like: Sequence[ir.Node]
    ) -> ir.Value:
        if self.model.opset_imports.get("", 0) < 13:
            return self.op(op_type, [value], {"axes": [axis]}, like=like)
        return self.op(op_type, [value, self.ints(axis)], like=like)

    def pad(self, value: ir.Value, pads: Sequence[int]) -> ir.Value:
        """Add a Pad with zeros, in the form of the model's opset."""
        if self.model.opset_imports.get("", 0) < 11:
            return self.op("Pad", [value], {"pads": list(pads)})
        return self.op("Pad", [value, self.ints(*pads)])

    def cut(self, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
        """Add a Slice of one axis, in the form of the model's opset."""
        if self.model.opset_imports.get("", 0) < 10:
            return self.op("Slice", [value], {"axes": [axis], "starts": [start], "ends": [end]})
        return self.op("Slice", [value, self.ints(start), self.ints(end), self.ints(axis)])

    def finish(self, old: Mapping[ir.Value, ir.Value]) -> None:
        """Put new values in the place of old ones, and remove what nothing reads any more."""
        for value, new in old.items():
            put_in_place(value, new, self.names, fresh=new in self._made)
        drop_unused(node for value in old if (node := value.producer()) is not None)
