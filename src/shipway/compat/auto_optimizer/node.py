"""Nodes, initializers and placeholders with the names auto_optimizer gives them."""

from __future__ import annotations

import warnings
from typing import Any

from shipway.compat.elements import Constant, Element, Operator, Placeholder
from shipway.compat.faults import UnsupportedAttribute
from shipway.errors import UsageError

__all__ = [
    "BaseNode",
    "Initializer",
    "Node",
    "OnnxInitializer",
    "OnnxNode",
    "OnnxPlaceHolder",
    "PlaceHolder",
]

BaseNode = Element


class Node(Operator):
    """A node of a graph."""

    def __getitem__(self, key: str) -> Any:
        if key not in self.attrs:
            raise KeyError(f"Node({self.name}) do not have {key} attribute.")
        return self.attrs[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self.attrs:
            warnings.warn(f"Node({self.name}) do not have {key} attribute.", stacklevel=2)
        self.attrs[key] = value

    def get_input_id(self, node_input: str) -> int:
        """Return the number of the first input with a name."""
        if node_input not in self.inputs:
            raise _absent("input", self.inputs)
        return self.inputs.index(node_input)

    def get_input_ids(self, node_input: str) -> list[int]:
        """Return the numbers of all inputs with a name."""
        return [index for index, name in enumerate(self.inputs) if name == node_input]

    def get_output_id(self, output: str) -> int:
        """Return the number of the output with a name."""
        if output not in self.outputs:
            raise _absent("output", self.outputs)
        return self.outputs.index(output)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UnsupportedAttribute(f"auto_optimizer Node.{name}")


class _NoSuchName(UsageError, RuntimeError):
    """A node has no such input or output."""


def _absent(side: str, names: list[str]) -> _NoSuchName:
    return _NoSuchName(f"Name of {side} should be one of {list(names)}")


class Initializer(Constant):
    """A constant of a graph."""


class PlaceHolder(Placeholder):
    """An input or output of a graph, or what is declared of a value between."""


OnnxNode, OnnxInitializer, OnnxPlaceHolder = Node, Initializer, PlaceHolder
