"""Attributes of a node as the old tools gave them out: Python values, changed in place too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from shipway.compat.faults import Unsupported

__all__ = ["PROTOS", "VALUES", "Attributes", "Form", "decode", "encode"]

_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def decode(attribute: ir.Attr) -> Any:
    """Return the Python value of an attribute the way onnx.helper does: texts are bytes."""
    import onnx

    return onnx.helper.get_attribute_value(ir.serde.serialize_attribute(attribute))


def encode(name: str, value: Any) -> ir.Attr:
    """Return the attribute with a Python value; an empty list is one of integers."""
    import onnx

    if isinstance(value, (list, tuple)) and not value:
        return ir.AttrInt64s(name, [])
    return ir.serde.deserialize_attribute(onnx.helper.make_attribute(name, value))


@dataclass(frozen=True, slots=True)
class Form:
    """How attributes look to a script: how they are read and written."""

    read: Callable[[ir.Attr], Any]
    write: Callable[[str, Any], ir.Attr]


def _read_proto(attribute: ir.Attr) -> Any:
    return ir.serde.serialize_attribute(attribute)


def _write_proto(name: str, value: Any) -> ir.Attr:
    import onnx

    if not isinstance(value, onnx.AttributeProto):
        return encode(name, value)
    return ir.serde.deserialize_attribute(value)


VALUES = Form(decode, encode)
"""Python values, as auto_optimizer and MagicONNX's later branch have them."""
PROTOS = Form(_read_proto, _write_proto)
"""onnx.AttributeProto, as MagicONNX's first branch has them."""


class Attributes(MutableMapping[str, Any]):
    """The attributes of one node.

    A list or protobuf that was given out may be changed in place; `flush` takes such changes over.

    Args:
        node: The node.
        form: How they look.
        changed: Called when one was changed.
    """

    def __init__(self, node: ir.Node, form: Form, changed: Callable[[], None]) -> None:
        """Give nothing out yet."""
        self._node = node
        self._form = form
        self._changed = changed
        self._held: dict[str, Any] = {}
        self._lent: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._held:
            value = self._form.read(self._node.attributes[key])
            self._held[key], self._lent[key] = value, copy.deepcopy(value)
        return self._held[key]

    def __setitem__(self, key: str, value: Any) -> None:
        value = value.tolist() if isinstance(value, np.ndarray) else value
        self._held[key] = value
        self._write(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self._held and key not in self._node.attributes:
            raise KeyError(key)
        self._held.pop(key, None)
        self._node.attributes.pop(key, None)
        self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._node.attributes, *self._held)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(dict(self), memo)

    def flush(self) -> None:
        """Take over what was changed in place."""
        for key, value in self._held.items():
            if self._lent.get(key) != value:
                self._write(key, value)

    def _write(self, key: str, value: Any) -> None:
        if value is not None:
            attribute = self._form.write(key, value)
            if attribute.type in _GRAPHS:
                raise Unsupported(f"change of sub-graph '{key}' of '{self._node.name}'")
            self._node.attributes[key] = attribute
        self._lent[key] = copy.deepcopy(value)
        self._changed()
