"""What a node is, apart from where it stands: the key that nodes are aligned by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import onnx_ir as ir

from shipway.graph.building import constant_tensor
from shipway.graph.schemas import find_schema
from shipway.graph.standard import STANDARD_DOMAINS

__all__ = ["Labeler", "freeze_attribute", "freeze_tensor", "is_constant_node", "tensor_of"]

_SMALL_BYTES = 128


def is_constant_node(node: ir.Node) -> bool:
    """Whether a node is a Constant that holds a tensor: it is compared as a weight."""
    return node.op_type == "Constant" and tensor_of(node.outputs[0]) is not None


def tensor_of(value: ir.Value) -> ir.TensorProtocol | None:
    """Return the tensor of an initializer, one that a caller may override too, or of a Constant."""
    return value.const_value if value.is_initializer() else constant_tensor(value)


class Labeler:
    """Makes labels, the same ones for nodes of two models.

    Args:
        opsets: The opsets of both models: an attribute that has its default is none.
    """

    def __init__(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Keep the opsets."""
        self._opsets = (before, after)
        self._schemas: dict[tuple[str, str, int], dict[str, Any]] = {}

    def attributes(self, node: ir.Node, side: int) -> dict[str, ir.Attr]:
        """Return the attributes of a node by name, in order, without those at their default.

        Args:
            node: The node.
            side: 0 before, 1 after.
        """
        defaults = self._defaults(node, side)
        return {
            name: attribute
            for name, attribute in sorted(node.attributes.items())
            if attribute.is_ref()
            or name not in defaults
            or _plain(attribute.value) != defaults[name]
        }

    def label(self, node: ir.Node, side: int) -> Hashable:
        """Return what a node is: operator, attributes, which inputs it has, its weights' types."""
        attributes = tuple(
            (name, freeze_attribute(one)) for name, one in self.attributes(node, side).items()
        )
        inputs = tuple(None if one is None else _weight_key(one) for one in node.inputs)
        outputs = tuple(bool(one.name) for one in node.outputs)
        return (*self.operator(node), attributes, inputs, outputs)

    @staticmethod
    def operator(node: ir.Node) -> tuple[str, str, str]:
        """Return domain, type and overload of a node's operator."""
        domain = "" if node.domain in STANDARD_DOMAINS else node.domain
        return domain, node.op_type, node.overload

    def _defaults(self, node: ir.Node, side: int) -> dict[str, Any]:
        version = self._opsets[side].get(node.domain, self._opsets[side].get("ai.onnx", 0))
        key = (node.domain, node.op_type, version)
        if key not in self._schemas:
            schema = find_schema(node.op_type, node.domain, version or None)
            self._schemas[key] = {} if schema is None else _schema_defaults(schema)
        return self._schemas[key]


def _schema_defaults(schema: Any) -> dict[str, Any]:
    found = {}
    for name, one in schema.attributes.items():
        if one.default_value.type:
            found[name] = _plain(ir.serde.deserialize_attribute(one.default_value).value)
    return found


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _weight_key(value: ir.Value) -> Hashable:
    """Return dtype and shape of a weight, and its bytes where they are few; "" for other values."""
    tensor = tensor_of(value)
    if tensor is None:
        return ""
    return freeze_tensor(tensor)


def freeze_tensor(tensor: ir.TensorProtocol) -> Hashable:
    """Return dtype and shape of a tensor, and its bytes where they are few."""
    key = (int(tensor.dtype), tuple(tensor.shape.numpy()))
    if tensor.dtype is ir.DataType.STRING or tensor.nbytes > _SMALL_BYTES:
        return key
    return (*key, tensor.tobytes())


def freeze_attribute(attribute: ir.Attr) -> Hashable:
    """Return an attribute as something to compare: equal for equal ones, but for large tensors."""
    if attribute.is_ref():
        return ("reference", attribute.ref_attr_name)
    freeze = _FREEZERS.get(attribute.type, _freeze_plain)
    value: Any = attribute.value
    if isinstance(value, (list, tuple)):
        return (int(attribute.type), tuple(map(freeze, value)))
    return (int(attribute.type), freeze(value))


def _freeze_plain(value: Any) -> Hashable:
    return value.hex() if isinstance(value, float) else repr(value)  # 0.0 and -0.0 are different


def _outline(graph: ir.Graph) -> Hashable:
    """Return the operators of a graph, sorted: enough to tell branches apart."""
    operators = sorted(Labeler.operator(node) for node in graph.all_nodes())
    return (len(graph.inputs), len(graph.outputs), tuple(operators))


_FREEZERS: Mapping[ir.AttributeType, Callable[[Any], Hashable]] = {
    ir.AttributeType.TENSOR: freeze_tensor,
    ir.AttributeType.TENSORS: freeze_tensor,
    ir.AttributeType.GRAPH: _outline,
    ir.AttributeType.GRAPHS: _outline,
}
