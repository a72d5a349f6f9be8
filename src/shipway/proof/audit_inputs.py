"""The inputs of a model with a name for every dimension that may vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from shipway.errors import ModelError, TensorError, UsageError
from shipway.proof.audit_dims import DimFormula, read_formula
from shipway.tensors import ANY, Dim, TensorSpec, dtype_of

__all__ = ["AuditInputs", "read_inputs"]


@dataclass(frozen=True, slots=True)
class AuditInputs:
    """The inputs that a caller must give.

    Args:
        specs: Each dimension is a number or a name; one without a name is called "input[axis]".
        formulas: Meaning of names such as "2*n", which follow from others.
    """

    specs: tuple[TensorSpec, ...]
    formulas: Mapping[str, DimFormula]

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions that can be chosen freely, in order."""
        found = dict.fromkeys(name for spec in self.specs for name in spec.dynamic_dims)
        return tuple(name for name in found if name not in self.formulas)

    @property
    def first_axes(self) -> tuple[str, ...]:
        """Those of them that are the first axis of an input: how many samples there are."""
        firsts = {spec.shape[0] for spec in self.specs if spec.shape}
        return tuple(name for name in self.names if name in firsts)

    def complete(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Add the sizes that follow from others."""
        found = {name: formula(sizes) for name, formula in self.formulas.items()}
        return dict(sizes) | {name: size for name, size in found.items() if size is not None}

    def within(self, ranges: Mapping[str, tuple[float, float]]) -> AuditInputs:
        """Return the same with the ranges of numbers that inputs are made for."""
        specs = (
            replace(spec, value_range=ranges.get(spec.name, spec.value_range))
            for spec in self.specs
        )
        return replace(self, specs=tuple(specs))

    def check_names(self, given: Mapping[str, int]) -> None:
        """Refuse sizes of dimensions that the model does not have.

        Raises:
            UsageError: There is one.
        """
        if unknown := sorted(set(given) - set(self.names)):
            raise UsageError(
                f"The model has no dynamic dimension '{unknown[0]}'.",
                hint=f"It has: {', '.join(self.names) or 'none'}.",
            )


def read_inputs(model: ir.Model) -> AuditInputs:
    """Read the inputs of a model that have no default value.

    Raises:
        ModelError: An input is no tensor, of unknown rank, or of a dtype Shipway does not carry.
    """
    weights = model.graph.initializers
    specs = tuple(_spec(value) for value in model.graph.inputs if value.name not in weights)
    texts = dict.fromkeys(name for spec in specs for name in spec.dynamic_dims)
    plain = [text for text in texts if text.isidentifier()]
    formulas = {
        text: formula
        for text in texts
        if text not in plain and (formula := read_formula(text, plain)) is not None
    }
    return AuditInputs(specs, formulas)


def _spec(value: ir.Value) -> TensorSpec:
    name = value.name or ""
    if value.dtype is None or not isinstance(value.type, ir.TensorType):
        raise ModelError(
            f"The input '{name}' is no tensor; an audit makes numbers for tensors only.",
            hint="Audit the part that takes tensors.",
        )
    if value.shape is None:
        raise ModelError(
            f"The input '{name}' has no known rank, so no number can be made for it.",
            hint=f"Declare it: shipway graph edit MODEL change-shape --value {name} --shape batch,3",
        )
    try:
        dtype = dtype_of(int(value.dtype)).name
    except TensorError as error:
        raise ModelError(f"The input '{name}': {error}") from error
    shape = tuple(_dim(name, axis, dim) for axis, dim in enumerate(value.shape))
    return TensorSpec(name, dtype, shape)


def _dim(name: str, axis: int, dim: int | ir.SymbolicDim) -> Dim:
    if isinstance(dim, int):
        return dim if dim >= 0 else f"{name}[{axis}]"
    named = isinstance(dim.value, str) and dim.value not in {"", ANY}
    return str(dim.value) if named else f"{name}[{axis}]"
