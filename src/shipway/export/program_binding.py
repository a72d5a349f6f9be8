"""Which input spec belongs to which input of an ExportedProgram that somebody else made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shipway.errors import ExportError
from shipway.export.program import user_inputs
from shipway.export.signature import name_free_dims
from shipway.tensors import TensorSpec, dtype_named

__all__ = ["ProgramBinding", "bind_program"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProgramBinding:
    """Input specs in the order of a program's inputs.

    Args:
        specs: One a tensor input.
        program: The program.
    """

    specs: tuple[TensorSpec, ...]
    program: Any

    def arguments(self, values: Mapping[str, T]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the values, given by spec name, nested as the program takes them."""
        from torch.export.graph_signature import InputKind, TensorArgument
        from torch.utils._pytree import tree_unflatten

        queue = iter([values[spec.name] for spec in self.specs])
        flat = [
            next(queue) if isinstance(spec.arg, TensorArgument) else spec.arg.value
            for spec in self.program.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT
        ]
        args, kwargs = tree_unflatten(flat, self.program.call_spec.in_spec)
        return tuple(args), dict(kwargs)


def bind_program(program: Any, specs: Sequence[TensorSpec]) -> ProgramBinding:
    """Tie input specs to the inputs of a program, by name where all names fit, else by position.

    No specs: the program's own are taken, its dynamic dimensions named `<input>_dim<axis>`.

    Raises:
        ExportError: Too many or too few, or a dtype or rank that is not the program's.
    """
    nodes = user_inputs(program)
    names = [node.name for node in nodes]
    ordered = tuple(specs) or tuple(_own_spec(node) for node in nodes)
    if len(ordered) == 1 and not ordered[0].name:
        only = ordered[0]
        ordered = (TensorSpec(names[0], only.dtype, only.shape, only.value_range),)
    if len(ordered) != len(nodes):
        raise ExportError(
            f"The program takes {len(nodes)} tensors ({', '.join(names)}); {len(ordered)} inputs "
            "are given.",
            hint="Give one --input for each, or none.",
        )
    if {spec.name for spec in ordered} == set(names):
        ordered = tuple(sorted(ordered, key=lambda spec: names.index(spec.name)))
    ordered = name_free_dims(ordered)
    for spec, node in zip(ordered, nodes, strict=True):
        _check(spec, _own_spec(node))
    return ProgramBinding(ordered, program)


def _own_spec(node: Any) -> TensorSpec:
    value = node.meta["val"]
    shape = tuple(size if isinstance(size, int) else "?" for size in value.shape)
    return TensorSpec(node.name, dtype_named(str(value.dtype).removeprefix("torch.")).name, shape)


def _check(spec: TensorSpec, own: TensorSpec) -> None:
    if spec.dtype != own.dtype or len(spec.shape or ()) != len(own.shape or ()):
        raise ExportError(f"The program takes {own}, not {spec}.", hint=f"Give --input '{own}'.")
