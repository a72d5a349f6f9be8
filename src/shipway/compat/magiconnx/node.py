"""Nodes, initializers and placeholders with the names MagicONNX gives them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from shipway.compat.attributes import PROTOS
from shipway.compat.elements import Constant, Element, Operator, Placeholder
from shipway.compat.faults import UnsupportedAttribute
from shipway.compat.magiconnx.protos import LentTensor, LentType, NodeView
from shipway.errors import UsageError

__all__ = [
    "INITIALIZER",
    "PLACEHOLDER",
    "BaseNode",
    "FirstNode",
    "FirstPlaceHolder",
    "Initializer",
    "Node",
    "PlaceHolder",
]

PLACEHOLDER, INITIALIZER = "Placeholder", "Initializer"
BaseNode = Element


class _WrongKind(UsageError, RuntimeError):
    """A node has no such property."""


class Node(Operator):
    """A node of a graph, as MagicONNX's later branch has it: attributes are Python values."""

    @property
    def node(self) -> NodeView:
        """The node as a protobuf looks; what is changed there is changed."""
        return NodeView(self)

    _node = node

    @property
    def value(self) -> Any:
        """Numbers of a Constant node."""
        return self._tensor().numpy()

    @value.setter
    def value(self, value: Any) -> None:
        self._tensor()
        self.ir.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.asarray(value)))
        self.touch()

    def _tensor(self) -> ir.TensorProtocol:
        if self.op_type != "Constant" or "value" not in self.ir.attributes:
            raise _WrongKind(
                f"Only support Initializer/Constant, but the current node({self.name}) is {self.op_type}"
            )
        return self.ir.attributes["value"].as_tensor()

    def set_input(self, idx: int, name: str) -> None:
        """Read another name."""
        self.inputs[idx] = name

    def set_output(self, idx: int, name: str) -> None:
        """Write another name."""
        self.outputs[idx] = name

    def clear_domain(self) -> None:
        """Move to the default domain."""
        self.domain = ""

    def __getitem__(self, key: str) -> Any:
        if key not in self.attrs:
            raise KeyError(f"{self.name} do not have {key} attribute")
        return self._read(self.attrs[key])

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self.attrs:
            message = f"{self.name} do not have {key} attribute, you should be responsible for it."
            warnings.warn(message, stacklevel=2)
        self.attrs[key] = self._write(key, value)

    def _read(self, value: Any) -> Any:
        return value

    def _write(self, _key: str, value: Any) -> Any:
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UnsupportedAttribute(f"MagicONNX Node.{name}")


class FirstNode(Node):
    """A node of a graph, as MagicONNX's first branch has it: attributes are protobufs."""

    attribute_form = PROTOS

    def _read(self, value: Any) -> Any:
        import onnx

        return onnx.helper.get_attribute_value(value)

    def _write(self, key: str, value: Any) -> Any:
        import onnx

        return onnx.helper.make_attribute(key, value)


class Initializer(Constant):
    """A constant of a graph."""

    op_type = INITIALIZER
    _lent: LentTensor | None = None

    @property
    def node(self) -> Any:
        """The constant as a TensorProto; what is changed there is changed."""
        if self._lent is None:
            self._lent = LentTensor(self)
        return self._lent.proto

    def flush(self) -> None:
        """Take over what was changed in the protobuf."""
        if self._lent is not None:
            self._lent.flush()
            self._lent = None

    @property
    def inputs(self) -> list[str]:
        """Nothing: a constant reads no names."""
        return []

    @property
    def outputs(self) -> list[str]:
        """Nothing; the name of a constant is its own."""
        return []


class PlaceHolder(Placeholder):
    """An input or output of a graph; -1 stands for a dynamic dimension."""

    op_type = PLACEHOLDER
    _lent: LentType | None = None

    @property
    def node(self) -> Any:
        """The placeholder as a ValueInfoProto; what is changed there is changed."""
        if self._lent is None:
            self._lent = LentType(self)
        return self._lent.proto

    def flush(self) -> None:
        """Take over what was changed in the protobuf."""
        if self._lent is not None:
            self._lent.flush()
            self._lent = None
            self._dims.replace(Placeholder.wrap(self.ir).shape)

    @property
    def inputs(self) -> list[str]:
        """Nothing; the name of a placeholder is its own."""
        return []

    @property
    def outputs(self) -> list[str]:
        """Nothing; the name of a placeholder is its own."""
        return []


class FirstPlaceHolder(PlaceHolder):
    """An input or output of a graph, as MagicONNX's first branch has it: its shape is a text."""

    @property
    def shape(self) -> Any:
        """Its dimensions as a text, "[1, 3, -1]"."""
        return f"[{', '.join(map(str, self._dims))}]"

    @shape.setter
    def shape(self, shape: Sequence[int | str]) -> None:
        self._dims.replace("-1" if dim == -1 else dim for dim in shape)
