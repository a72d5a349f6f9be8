"""The inputs and outputs of a model: their types, declared sizes, and sizes that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from shipway.graph.facts.dims import Dim
from shipway.graph.facts.fact import Shape
from shipway.graph.inspection.flops import is_known
from shipway.tensors import ANY, DTYPES

__all__ = ["Port", "describe_ports", "dtype_name", "infer_ports"]

_NAMES = {dtype.onnx: dtype.name for dtype in DTYPES}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output.

    Args:
        name: Its name.
        type: Element type, e.g. "float32"; with what is around it, e.g. "seq(float32)".
        shape: Declared sizes: numbers, names, "?" for an unnamed one. None where there are none.
        inferred: Sizes as they follow from the inputs and weights; None where they do not.
        default: Whether the model brings a value that a caller may override.
    """

    name: str
    type: str
    shape: tuple[int | str, ...] | None
    inferred: tuple[int | str, ...] | None = None
    default: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "type": self.type,
            "shape": None if self.shape is None else list(self.shape),
            "inferred": None if self.inferred is None else list(self.inferred),
            "default": self.default,
        }


def describe_ports(values: Iterable[ir.Value]) -> tuple[Port, ...]:
    """Describe inputs or outputs as they are declared."""
    return tuple(
        Port(
            value.name or "",
            _type_name(value.type),
            None if value.shape is None else tuple(map(_declared, value.shape)),
            default=value.is_initializer(),
        )
        for value in values
    )


def infer_ports(ports: Iterable[Port], shapes: Mapping[str, Shape | None]) -> tuple[Port, ...]:
    """Add the sizes that follow from the inputs and weights.

    Args:
        ports: From `describe_ports`.
        shapes: By name of the port.
    """
    return tuple(replace(port, inferred=_sizes(shapes.get(port.name))) for port in ports)


def dtype_name(dtype: ir.DataType) -> str:
    """Return the name Shipway has for an element type, or ONNX's for one that it has none for.

    Example:
        >>> dtype_name(ir.DataType.FLOAT), dtype_name(ir.DataType.FLOAT8E4M3FN)
        ('float32', 'float8e4m3fn')
    """
    return _NAMES.get(int(dtype), dtype.name.lower())


def _type_name(kind: ir.TypeProtocol | None) -> str:
    if isinstance(kind, ir.SequenceType):
        return f"seq({_type_name(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({_type_name(kind.elem_type)})"
    if isinstance(kind, ir.SparseTensorType):
        return f"sparse({dtype_name(kind.dtype)})"
    return "unknown" if kind is None else dtype_name(kind.dtype)


def _declared(dim: int | ir.SymbolicDim) -> int | str:
    if isinstance(dim, int):
        return dim if dim >= 0 else ANY
    return str(dim.value) if dim.value else ANY


def _sizes(shape: Shape | None) -> tuple[int | str, ...] | None:
    return None if shape is None else tuple(map(_size, shape))


def _size(dim: Dim) -> int | str:
    if isinstance(dim, int):
        return dim
    return repr(dim) if is_known((dim,)) else ANY
