"""Declares the inputs and outputs of a part of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from shipway.errors import TensorError, UsageError
from shipway.graph.declaring import Declarations, Size
from shipway.tensors import ANY, TensorSpec, dtype_named, dtype_of

__all__ = ["Signer", "describe_tensor", "describe_value", "dtype_name"]


class Signer:
    """Gives inputs and outputs of a part their dtypes and shapes.

    Args:
        model: The whole model, its nodes sorted.
        types: What the user says of some values.
        sizes: Numbers for dynamic dimensions.

    Raises:
        UsageError: A value is described twice.
    """

    def __init__(
        self, model: ir.Model, types: Sequence[TensorSpec], sizes: Mapping[str, int]
    ) -> None:
        """Infer what is known."""
        self.notes: list[str] = []
        self.declarations = Declarations(model, sizes)
        self._model = model
        self._sizes_given = sizes
        self._unread = {spec.name: spec for spec in types}
        self._told: list[ir.Value] = []
        if len(self._unread) < len(types):
            raise UsageError("A value is given two types.", hint="Give --type once for each value.")

    def declare(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> None:
        """Declare values that become inputs, then outputs; outputs that are no tensors stay.

        Raises:
            UsageError: A dtype or rank is not known, an input is no tensor, the user contradicts
                what is inferred, or says something of another value.
        """
        for value in inputs:
            if value.type is not None and not isinstance(value.type, ir.TensorType):
                raise UsageError(
                    f"'{value.name}' is a {value.type}; an input must be a tensor.",
                    hint="Begin before it is made, or behind what takes tensors out of it.",
                )
            self._declare(value)
        if self._told:
            told = [one for one in self._told if one.producer() is not None]
            self.declarations = Declarations(self._model, self._sizes_given, told)
        for value in outputs:
            is_tensor = value.type is None or isinstance(value.type, ir.TensorType)
            if is_tensor and value.producer() is not None:
                self._declare(value)
        for name in self._unread:
            raise UsageError(
                f"'{name}' has a type given, and is no new input or output.",
                hint="Leave its --type out; inputs and weights of the model keep their types.",
            )

    def _declare(self, value: ir.Value) -> None:
        spec = self._unread.pop(value.name or "", None)
        known = self.declarations.of(value, name_all=True)
        if spec is not None or known.dtype is None or known.shape is None:
            self._told.append(value)
        dtype = self._dtype(value, known.dtype, spec)
        sizes = self._sizes(value, known.shape, spec)
        value.type, value.shape = ir.TensorType(dtype), ir.Shape(sizes)

    def _dtype(
        self, value: ir.Value, known: ir.DataType | None, spec: TensorSpec | None
    ) -> ir.DataType:
        if spec is not None:
            wanted = ir.DataType(dtype_named(spec.dtype).onnx)
            if known is not None and wanted is not known:
                raise UsageError(f"'{value.name}' is {dtype_name(known)}, not {spec.dtype}.")
            return wanted
        if known is not None:
            return known
        if value.dtype is None:
            raise _unknown(value, "dtype")
        self.notes.append(
            f"not inferred: the dtype of '{value.name}', {dtype_name(value.dtype)} as declared"
        )
        return value.dtype

    def _sizes(
        self, value: ir.Value, known: tuple[Size, ...] | None, spec: TensorSpec | None
    ) -> tuple[Size, ...]:
        if spec is not None and spec.shape is not None:
            return _agreed(value, known, spec, spec.shape)
        if known is not None:
            return known
        if value.shape is None:
            raise _unknown(value, "rank")
        name, rank = value.name or "", len(value.shape)
        self.notes.append(
            f"not inferred: the shape of '{name}', {rank} dimensions as declared, their sizes open"
        )
        return tuple(self.declarations.name_size(name, axis) for axis in range(rank))


def _agreed(
    value: ir.Value,
    known: tuple[Size, ...] | None,
    spec: TensorSpec,
    wanted: tuple[int | str, ...],
) -> tuple[Size, ...]:
    """Combine what the user says of a shape with what is inferred."""
    if known is None:
        return tuple(None if size == ANY else size for size in wanted)
    clash = len(known) != len(wanted) or any(
        isinstance(one, int) and isinstance(other, int) and one != other
        for one, other in zip(known, wanted, strict=True)
    )
    if clash:
        sizes = ", ".join(map(str, known))
        raise UsageError(f"'{value.name}' has the shape [{sizes}], not that of {spec}.")
    return tuple(
        one if isinstance(one, int) or other == ANY else other
        for one, other in zip(known, wanted, strict=True)
    )


def _unknown(value: ir.Value, what: str) -> UsageError:
    node = value.producer()
    behind = "" if node is None else f" behind {node.op_type} '{node.name}'"
    return UsageError(
        f"The {what} of '{value.name}' is not known: nothing can be inferred{behind}.",
        hint=f'Say what it is: --type "{value.name}:float32[batch,3]". Shapes can also be found out '
        "by running the model: --run",
    )


def describe_value(value: ir.Value) -> str:
    """Write a value as name:dtype[sizes], or name:type where it is no tensor."""
    if not isinstance(value.type, ir.TensorType):
        return f"{value.name}:{value.type}"
    if value.shape is None:
        sizes = "..."
    else:
        dims = (dim if isinstance(dim, int) else dim.value or ANY for dim in value.shape)
        sizes = ",".join(map(str, dims))
    return f"{value.name}:{dtype_name(value.type.dtype)}[{sizes}]"


def describe_tensor(tensor: ir.TensorProtocol) -> str:
    """Write dtype and shape of a tensor as dtype[sizes]."""
    return f"{dtype_name(tensor.dtype)}[{','.join(map(str, tensor.shape.numpy()))}]"


def dtype_name(dtype: ir.DataType) -> str:
    """Write a dtype as Shipway names it; one it does not carry as ONNX does."""
    try:
        return dtype_of(int(dtype)).name
    except TensorError:
        return dtype.name.lower()
