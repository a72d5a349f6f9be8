"""Which input spec belongs to which parameter of a model's `forward`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Literal, TypeVar

from shipway.errors import ExportError
from shipway.tensors import ANY, TensorSpec

__all__ = ["Binding", "bind_inputs", "name_free_dims"]

T = TypeVar("T")
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Binding:
    """Input specs tied to the parameters of `forward`.

    Args:
        specs: In the order of the signature, each with a name.
        parameters: Name of the parameter each spec goes to.
        positional: How many of them are passed by position; the others are keywords.
        matched: Whether names or positions decided.
    """

    specs: tuple[TensorSpec, ...]
    parameters: tuple[str, ...]
    positional: int
    matched: Literal["by name", "by position"]

    def arguments(self, values: Mapping[str, T]) -> tuple[tuple[T, ...], dict[str, T]]:
        """Return the values, given by spec name, as `args` and `kwargs` of `forward`."""
        ordered = [values[spec.name] for spec in self.specs]
        named = zip(self.parameters[self.positional :], ordered[self.positional :], strict=True)
        return tuple(ordered[: self.positional]), dict(named)

    def describe(self) -> str:
        """Say which spec went where, for the side-car."""
        pairs = zip(self.specs, self.parameters, strict=True)
        return f"{self.matched}: " + ", ".join(f"{spec.name} to {to}" for spec, to in pairs)


def name_free_dims(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the specs with each `?` dimension named `<input>_dim<axis>`.

    A free dimension has no name to share, so each becomes a symbol of its own.

    Raises:
        ExportError: The rank of an input is unknown.
    """
    named = []
    for spec in specs:
        if spec.shape is None:
            raise ExportError(
                f"Input '{spec.name}' has no known rank, so it cannot be exported.",
                hint=f"Give its shape: --input '{spec.name}:{spec.dtype}[batch,...]'.",
            )
        stem = re.sub(r"\W", "_", spec.name) or "input"
        stem = f"_{stem}" if stem[0].isdigit() else stem
        shape = tuple(
            f"{stem}_dim{axis}" if dim == ANY else dim for axis, dim in enumerate(spec.shape)
        )
        named.append(TensorSpec(spec.name, spec.dtype, shape, spec.value_range))
    return tuple(named)


def bind_inputs(forward: Callable[..., Any], specs: Sequence[TensorSpec]) -> Binding:
    """Tie input specs to the parameters of `forward`.

    All names known to `forward`: they decide, in any order. None known: the position decides, and
    the tensors keep the names of their specs. Some known and some not is taken for a mistake. A
    single spec without a name takes the name of the first parameter.

    Args:
        forward: The bound method of the module.
        specs: As the user gave them.

    Raises:
        ExportError: No specs, too many, one without a home, or a required parameter left over. The
            message shows the signature.
    """
    signature = inspect.signature(forward)
    if not specs:
        raise _no_specs(signature)
    if len({spec.name for spec in specs}) != len(specs):
        raise _misfit(signature, specs, "two inputs have the same name")
    parameters = list(signature.parameters.values())
    if len(specs) == 1 and not specs[0].name:
        first = next((item.name for item in parameters), "input")
        specs = (TensorSpec(first, specs[0].dtype, specs[0].shape, specs[0].value_range),)
    specs = name_free_dims(specs)
    known = {item.name for item in parameters if not _is_variadic(item)}
    unknown = [spec.name for spec in specs if spec.name not in known]
    if not unknown:
        return _bind_by_name(signature, specs)
    if len(unknown) < len(specs):
        raise _misfit(signature, specs, f"it has no parameter {', '.join(unknown)}")
    return _bind_by_position(signature, specs)


def _is_variadic(item: Parameter) -> bool:
    return item.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


def _bind_by_name(signature: inspect.Signature, specs: Sequence[TensorSpec]) -> Binding:
    parameters = signature.parameters
    given = {spec.name for spec in specs}
    _require_all(signature, specs, given)
    order = {name: index for index, name in enumerate(parameters)}
    ordered = tuple(sorted(specs, key=lambda spec: order[spec.name]))
    positional = 0
    for item in parameters.values():
        if item.kind not in _POSITIONAL or item.name not in given:
            break
        positional += 1
    return Binding(ordered, tuple(spec.name for spec in ordered), positional, "by name")


def _bind_by_position(signature: inspect.Signature, specs: Sequence[TensorSpec]) -> Binding:
    parameters = signature.parameters.values()
    places = [item.name for item in parameters if item.kind in _POSITIONAL]
    rest = [item.name for item in parameters if item.kind is Parameter.VAR_POSITIONAL]
    if len(specs) > len(places) and not rest:
        why = f"it has no such parameters, and takes {len(places)} by position, not {len(specs)}"
        raise _misfit(signature, specs, why)
    taken = [*places, *rest * len(specs)][: len(specs)]
    _require_all(signature, specs, set(taken))
    return Binding(tuple(specs), tuple(taken), len(specs), "by position")


def _require_all(
    signature: inspect.Signature, specs: Sequence[TensorSpec], given: set[str]
) -> None:
    missing = [
        item.name
        for item in signature.parameters.values()
        if item.default is Parameter.empty and not _is_variadic(item) and item.name not in given
    ]
    if missing:
        raise _misfit(signature, specs, f"nothing is given for {', '.join(missing)}")


def _misfit(signature: inspect.Signature, specs: Sequence[TensorSpec], why: str) -> ExportError:
    return ExportError(
        f"The inputs {', '.join(spec.name or '(no name)' for spec in specs)} do not fit "
        f"forward{_plain(signature)}: {why}.",
        hint=_example(signature),
    )


def _no_specs(signature: inspect.Signature) -> ExportError:
    return ExportError(
        f"The inputs of forward{_plain(signature)} are not known.", hint=_example(signature)
    )


def _plain(signature: inspect.Signature) -> str:
    """Write a signature without annotations, which run to pages in some models."""
    bare = [item.replace(annotation=Parameter.empty) for item in signature.parameters.values()]
    return str(inspect.Signature(bare))


def _example(signature: inspect.Signature) -> str:
    needed = [
        item.name
        for item in signature.parameters.values()
        if item.default is Parameter.empty and not _is_variadic(item)
    ]
    flags = " ".join(f'--input "{name}:float32[batch,...]"' for name in needed or ["x"])
    return f"Give each tensor with its shape: {flags}."
