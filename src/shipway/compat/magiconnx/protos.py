"""The protobufs MagicONNX gives out: scripts change them, and the graph follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from shipway.compat.attributes import PROTOS
from shipway.compat.faults import UnsupportedAttribute
from shipway.compat.watched import Watched

if TYPE_CHECKING:
    from shipway.compat.elements import Constant, Operator, Placeholder

__all__ = ["LentTensor", "LentType", "NodeView"]

_FIELDS = frozenset({"name", "op_type", "domain", "doc_string"})


class NodeView:
    """A node with the fields of a NodeProto.

    Args:
        operator: The node.
    """

    def __init__(self, operator: Operator) -> None:
        """Keep the node under a name that is no field."""
        object.__setattr__(self, "_operator", operator)

    def __getattr__(self, name: str) -> Any:
        operator = object.__getattribute__(self, "_operator")
        if name == "input":
            return operator.inputs
        if name == "output":
            return operator.outputs
        if name == "attribute":
            return _attribute_list(operator)
        if name in _FIELDS:
            return getattr(operator, name)
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedAttribute(f"NodeProto.{name} of a node")

    def __setattr__(self, name: str, value: Any) -> None:
        operator = object.__getattribute__(self, "_operator")
        if name not in _FIELDS:
            raise UnsupportedAttribute(f"assignment to NodeProto.{name}")
        setattr(operator, name, value)


def _attribute_list(operator: Operator) -> list[Any]:
    """Return the attributes as protobufs, in a list that may be changed as they may."""
    if operator.attribute_form is not PROTOS:
        return [ir.serde.serialize_attribute(one) for one in operator.ir.attributes.values()]

    def take(_before: list[Any]) -> None:
        kept = {one.name for one in protos}
        for key in set(operator.attrs) - kept:
            del operator.attrs[key]
        for one in protos:
            operator.attrs[one.name] = one

    protos: Watched[Any] = Watched(operator.attrs.values(), take)
    return protos


class LentTensor:
    """The protobuf of a constant, in a script's hands.

    Args:
        constant: The constant.
    """

    def __init__(self, constant: Constant) -> None:
        """Make the protobuf."""
        tensor = constant.ir.const_value
        assert tensor is not None  # noqa: S101 -- every constant of a graph has numbers
        self._constant = constant
        self.proto: Any = ir.serde.serialize_tensor(tensor)
        self.proto.name = constant.name
        self._before = self.proto.SerializeToString()

    def flush(self) -> None:
        """Take over what was changed."""
        if self.proto.SerializeToString() == self._before:
            return
        self._constant.name = self.proto.name
        self._constant.value = ir.serde.deserialize_tensor(self.proto).numpy()


class LentType:
    """The protobuf of an input or output, in a script's hands.

    Args:
        placeholder: The input or output.
    """

    def __init__(self, placeholder: Placeholder) -> None:
        """Make the protobuf."""
        self._placeholder = placeholder
        self.proto: Any = ir.serde.serialize_value(placeholder.ir)
        self.proto.name = placeholder.name
        self._before = self.proto.SerializeToString()

    def flush(self) -> None:
        """Take over what was changed."""
        if self.proto.SerializeToString() == self._before:
            return
        placeholder = self._placeholder
        new = ir.serde.deserialize_value_info_proto(self.proto, None)
        placeholder.name = self.proto.name
        placeholder.ir.type, placeholder.ir.shape = new.type, new.shape
        placeholder.touch()
