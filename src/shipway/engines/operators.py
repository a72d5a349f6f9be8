"""Custom operators on their way into an engine: with a kernel they stay, without one they are inlined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from shipway.artifact import Artifact
from shipway.engines.base import Finding
from shipway.engines.onnxfile import Operator, operators, read_onnx
from shipway.engines.staging import staged
from shipway.errors import EngineError, ExportError
from shipway.export.onnx_file import save_onnx
from shipway.export.operator_nodes import inline_operators
from shipway.export.portable import PortableModel
from shipway.ops.kernel_library import library_of, why_portable
from shipway.ops.registry import known_operator, operator_for_node
from shipway.source.tensordata import EXTERNAL_THRESHOLD_BYTES

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

    from shipway.ops.definition import CustomOp

__all__ = [
    "INLINED",
    "describe_operators",
    "drop_bodies",
    "effective_operators",
    "lower_operators",
    "operators_in",
    "require_kernel",
    "unknown_findings",
]

_NONE: Mapping[str, str] = MappingProxyType({})
INLINED = "shipway.inlined"
"""Model metadata that lists the operators lowering has replaced by their portable bodies."""


def operators_in(proto: ModelProto) -> dict[str, CustomOp]:
    """Return the defined operators that a model calls, by name; those with a local function too."""
    found = {}
    for domain, name in {**operators(proto), **dict.fromkeys(_functions(proto), "")}:
        op = operator_for_node(domain, name)
        if op is not None:
            found[op.name] = op
    return found


def _functions(proto: ModelProto) -> list[Operator]:
    return [(function.domain, function.name) for function in proto.functions]


def lower_operators(
    model: PortableModel,
    path: Path,
    folder: Path,
    has_kernel: Callable[[CustomOp], bool],
    runs: Callable[[ir.Node], bool] | None = None,
) -> PortableModel:
    """Replace the custom operators an engine has no kernel for by their portable bodies.

    Args:
        model: The model.
        path: Its .onnx file.
        folder: Where a rewritten file goes.
        has_kernel: Whether the engine can run an operator as it is.
        runs: Whether the engine has a standard operator; None is all of them.

    Returns:
        The model itself where nothing was replaced.

    Raises:
        EngineError: An operator has neither a kernel nor a body.
        OutputError: `folder` cannot be written to.
    """
    import onnx_ir as ir

    proto = read_onnx(path, model)
    replaced = [op for op in operators_in(proto).values() if not has_kernel(op)]
    if not replaced:
        return model
    graph = ir.load(path)
    names = {op.name for op in replaced}
    try:
        done = inline_operators(graph, lambda op: op.name in names, runs=runs)
    except ExportError as error:
        raise EngineError(
            f"{path} calls {', '.join(sorted(names))}, which has no kernel here, and no body: {error}",
            hint=error.hint,
        ) from error
    graph.metadata_props[INLINED] = ",".join(done)
    with staged(folder / path.name) as scratch:
        save_onnx(graph, scratch / path.name, threshold_bytes=EXTERNAL_THRESHOLD_BYTES)
    return PortableModel(
        model.inputs, model.outputs, folder / path.name, model.program, model.name_map
    )


def describe_operators(proto: ModelProto, ops: Iterable[CustomOp], kernel: str) -> dict[str, str]:
    """Say what computes each custom operator of a lowered model.

    Args:
        proto: The model.
        ops: Those that run in a kernel.
        kernel: What kind of kernel.
    """
    inlined = {entry.key: entry.value for entry in proto.metadata_props}.get(INLINED, "")
    found = {name: _portable_words(name) for name in inlined.split(",") if name}
    return found | {op.name: kernel for op in ops}


def effective_operators(artifact: Artifact, kernels: Mapping[str, str] = _NONE) -> dict[str, str]:
    """Return what a session says of its custom operators; nothing where it has none.

    Args:
        artifact: Knows what computed each of them when it was made.
        kernels: What computes some of them here.
    """
    found = {**artifact.made.get("custom_ops", {}), **kernels}
    words = "; ".join(f"{name}: {what}" for name, what in sorted(found.items()))
    return {"custom_ops": words} if words else {}


def require_kernel(artifact: Artifact, op: CustomOp, engine: str) -> None:
    """Refuse a model that was compiled where an operator had a kernel, if it has none here.

    Raises:
        EngineError: It has none.
    """
    if library_of(op) is None:
        raise EngineError(
            f"{artifact.path} needs the native kernel of {op.name}: {why_portable(op)}",
            hint=f"Compile the model here, with --engine {engine}: it then gets the portable body.",
        )


def drop_bodies(proto: ModelProto) -> None:
    """Take the bodies of defined operators out of a model, in place: their nodes then stay nodes."""
    others = [one for one in proto.functions if operator_for_node(one.domain, one.name) is None]
    del proto.functions[:]
    proto.functions.extend(others)


def _portable_words(name: str) -> str:
    op = known_operator(name)
    why = why_portable(op) if op is not None else ""
    return f"portable body ({why or 'as asked for'})"


def unknown_findings(
    proto: ModelProto, runtime: str, known: Callable[[Operator], bool]
) -> list[Finding]:
    """Return a finding for every operator of a model that the runtime cannot run.

    Args:
        proto: The model.
        runtime: Name and version of the runtime.
        known: Whether the runtime has an operator of its own.
    """
    return [
        _unknown(operator, node, runtime)
        for operator, node in operators(proto).items()
        if not known(operator) and operator_for_node(*operator) is None
    ]


def _unknown(operator: Operator, node: str, runtime: str) -> Finding:
    domain, name = operator
    if not domain:
        return Finding(
            "error",
            f"No kernel for operator {name} in {runtime}.",
            where=node,
            hint="Export the model with this operator written in standard ones.",
        )
    return Finding(
        "error",
        f"No kernel for custom operator {domain}::{name} in {runtime}, and no definition here "
        "(other tools say: No parser is registered).",
        where=node,
        hint="Give its definition with --ops FILE.py; shipway op new NAME starts one.",
    )
