"""What can be read off an ExportedProgram: inputs, outputs, symbols, limits, state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shipway.errors import ExportError, TensorError
from shipway.export.refusals import name_symbols
from shipway.tensors import ANY, Dim, TensorSpec, dtype_named

__all__ = [
    "carried_dtype",
    "mutation_warnings",
    "output_specs",
    "program_bounds",
    "program_state",
    "symbol_names",
    "tensor_outputs",
    "user_inputs",
]

_UNLIMITED = 1 << 40
"""torch writes "no limit" in several ways; no tensor has a dimension this large."""


def user_inputs(program: Any) -> list[Any]:
    """Return the placeholder nodes of the program's tensor inputs, in order."""
    from torch.export.graph_signature import InputKind, TensorArgument

    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [
        nodes[spec.arg.name]
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)
    ]


def tensor_outputs(program: Any) -> list[str]:
    """Return the names of the nodes that the program returns, tensors only, in order."""
    from torch.export.graph_signature import OutputKind, TensorArgument

    return [
        spec.arg.name
        for spec in program.graph_signature.output_specs
        if spec.kind is OutputKind.USER_OUTPUT and isinstance(spec.arg, TensorArgument)
    ]


def symbol_names(program: Any, specs: Sequence[TensorSpec]) -> dict[str, str]:
    """Return the user's name for each of the program's symbols.

    Symbols that torch made itself (sizes that depend on data) keep their names, with `_` appended
    where a name of the user is the same.

    Raises:
        ExportError: A dimension that was to be dynamic is fixed in the program, or the other way
            round.
    """
    names: dict[str, str] = {}
    for spec, node in zip(specs, user_inputs(program), strict=True):
        sizes = map(str, node.meta["val"].shape)
        for axis, (dim, size) in enumerate(zip(spec.shape or (), sizes, strict=True)):
            _check_dim(spec, axis, dim, size)
            if isinstance(dim, str):
                names[size] = dim
    taken = set(names.values())
    for symbol in program.range_constraints:
        own = str(symbol)
        if own not in names:
            names[own] = own + "_" * (own in taken)
    return names


def _check_dim(spec: TensorSpec, axis: int, dim: Dim, size: str) -> None:
    if isinstance(dim, str) and size.isdigit():
        raise ExportError(
            f"Dimension '{dim}' (axis {axis} of '{spec.name}') was asked to be dynamic, but the "
            f"program fixes it to {size}.",
            hint=f"Write {size} in its place in --input, or export the program again.",
        )
    if isinstance(dim, int) and not size.isdigit():
        raise ExportError(
            f"Axis {axis} of '{spec.name}' is dynamic in the program ({size}), not {dim}.",
            hint="Give it a name in --input.",
        )


def output_specs(
    program: Any, names: Sequence[str], symbols: Mapping[str, str]
) -> tuple[TensorSpec, ...]:
    """Return the specs of the program's outputs under their final names.

    A size that is an expression of symbols is `?` in the spec; the ONNX file has the expression.

    Raises:
        ExportError: An output has an element type that Shipway does not carry.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    found = [nodes[name].meta["val"] for name in tensor_outputs(program)]
    specs = []
    for name, value in zip(names, found, strict=True):
        shape = tuple(_spec_dim(size, symbols) for size in value.shape)
        specs.append(TensorSpec(name, carried_dtype(name, value.dtype), shape))
    return tuple(specs)


def _spec_dim(size: Any, symbols: Mapping[str, str]) -> Dim:
    if isinstance(size, int):
        return size
    text = name_symbols(str(size), symbols)
    return text if text.isidentifier() else ANY


def carried_dtype(name: str, dtype: Any) -> str:
    """Return Shipway's name of an output's torch dtype.

    Raises:
        ExportError: It is none that engines take.
    """
    try:
        return dtype_named(str(dtype).removeprefix("torch.")).name
    except TensorError as error:
        raise ExportError(
            f"Output '{name}' has dtype {dtype}, which no engine takes.",
            hint="Convert it in forward, e.g. torch.view_as_real for complex numbers.",
        ) from error


def program_bounds(program: Any, symbols: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
    """Return the sizes a program was made for, by the user's names; only what is a limit."""
    bounds: dict[str, tuple[int, int | None]] = {}
    for symbol, limits in program.range_constraints.items():
        low, high = max(1, int(limits.lower)), int(min(_UNLIMITED, limits.upper))
        if str(symbol) in symbols and (low > 1 or high < _UNLIMITED):
            bounds[symbols[str(symbol)]] = (low, high if high < _UNLIMITED else None)
    return bounds


def mutation_warnings(program: Any) -> list[str]:
    """Say which state the program changes as it runs, which an ONNX model does not."""
    from torch.export.graph_signature import InputKind

    said = {
        InputKind.BUFFER: "forward changes the buffer '{}'; the ONNX model does not keep the "
        "change: every run starts from the exported state",
        InputKind.USER_INPUT: "forward changes its input '{}' in place; the ONNX model leaves it "
        "alone",
    }
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    written = dict.fromkeys(_written(node) for node in program.graph.nodes)
    return [
        said[specs[name].kind].format(specs[name].target or name)
        for name in written
        if name in specs and specs[name].kind in said
    ]


def _written(node: Any) -> str:
    """Return the placeholder that a node writes to, through views of it; "" for none."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable or not node.args:
        return ""
    target = node.args[0]
    while getattr(target, "op", "") == "call_function":
        views = getattr(target.target, "_schema", None)
        if views is None or not any(item.alias_info for item in views.returns) or not target.args:
            return ""
        target = target.args[0]
    return str(getattr(target, "name", ""))


def program_state(program: Any) -> list[Any]:
    """Return the buffers and constants of a program: what running it may change."""
    import torch

    values = {**program.constants, **program.state_dict}
    weights = set(program.graph_signature.parameters)
    return [
        value
        for name, value in values.items()
        if name not in weights and isinstance(value, torch.Tensor)
    ]
