"""What the engines that take an .onnx file read from it before their runtime does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from shipway.engines.base import Finding
from shipway.engines.staging import copy_file
from shipway.errors import ModelError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec, dtype_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

__all__ = [
    "Operator",
    "bfloat16_findings",
    "copy_onnx",
    "external_files",
    "operators",
    "read_onnx",
    "require_onnx",
]

Operator = tuple[str, str]
"""Domain ("" is the standard one) and type of an operator."""


def require_onnx(model: PortableModel, engine: str) -> Path:
    """Return the model's .onnx file.

    Raises:
        ModelError: The model has none.
    """
    if model.onnx is None:
        raise ModelError(
            f"{engine} needs the model as an .onnx file, and there is none.",
            hint="Make it with shipway export.",
        )
    return model.onnx


def read_onnx(path: Path, model: PortableModel | None = None) -> ModelProto:
    """Read an .onnx file, external weights left where they are.

    Args:
        path: The file.
        model: Whose input and output names the file must have.

    Raises:
        ModelError: The file is absent, truncated, not ONNX, lacks external data, or has other
            inputs or outputs than `model` says.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships no types

    try:
        proto = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror}.") from error
    except DecodeError as error:
        raise _not_onnx(path, "its bytes do not decode") from error
    if not proto.opset_import or not proto.graph.output:
        raise _not_onnx(path, "it has no outputs" if proto.opset_import else "it has no opset")
    imported = {_key(entry.domain, "")[0] for entry in proto.opset_import}
    foreign = {domain for domain, _ in operators(proto)} - imported
    if foreign:
        raise _not_onnx(path, f"it names no opset of the domain {', '.join(sorted(foreign))!r}")
    external_files(path, proto)
    if model is not None:
        _match(path, "inputs", model.inputs, _inputs(proto))
        _match(path, "outputs", model.outputs, proto.graph.output)
    return proto


def _not_onnx(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} is not a whole ONNX model: {why}.",
        hint="Make the file again with shipway export, or fetch it again.",
    )


def _inputs(proto: ModelProto) -> list[ValueInfoProto]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _match(
    path: Path, what: str, specs: tuple[TensorSpec, ...], values: Sequence[ValueInfoProto]
) -> None:
    found = {value.name: _dtype(value) for value in values}
    wanted = {spec.name: spec.dtype for spec in specs}
    if found != wanted:
        listed, promised = (
            ", ".join(f"{name}:{dtype}" for name, dtype in side.items()) for side in (found, wanted)
        )
        raise ModelError(
            f"{path} has the {what} {listed}; the model says {promised}.",
            hint="The file was changed after its export: export again.",
        )


def _dtype(value: ValueInfoProto) -> str:
    """Name the element type; a sequence, map or optional has the name of its kind."""
    kind = value.type.WhichOneof("value") or "untyped"
    if kind != "tensor_type":
        return str(kind).removesuffix("_type")
    return dtype_of(value.type.tensor_type.elem_type).name


def external_files(path: Path, proto: ModelProto) -> tuple[str, ...]:
    """Return the files that hold external weights, relative to the model's folder.

    Raises:
        ModelError: One is absent, too short, or outside the model's folder.
    """
    found: dict[str, int] = {}
    for tensor in _tensors(proto):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            location = entries.get("location", "")
            end_bytes = int(entries.get("offset", 0)) + int(entries.get("length", 0))
            found[location] = max(found.get(location, 0), end_bytes)
    for location, end_bytes in found.items():
        _check_external(path, location, end_bytes)
    return tuple(sorted(found))


def _check_external(path: Path, location: str, end_bytes: int) -> None:
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or ".." in pure.parts:
        raise ModelError(f"{path} keeps weights in '{location}', outside its own folder.")
    data = path.parent / location
    if not data.is_file():
        raise ModelError(
            f"{path} needs its weights in {data}, which is absent.",
            hint="Keep the .onnx file and its data file together.",
        )
    if data.stat().st_size < end_bytes:
        raise ModelError(
            f"{data} is truncated: {data.stat().st_size} bytes, of which {path.name} needs {end_bytes}."
        )


def copy_onnx(path: Path, proto: ModelProto, target: Path) -> tuple[str, ...]:
    """Copy the model to `target`, its external weights beside it; return their names."""
    companions = external_files(path, proto)
    copy_file(path, target)
    for location in companions:
        copy_file(path.parent / location, target.parent / location)
    return companions


def operators(proto: ModelProto) -> dict[Operator, str]:
    """Return every operator the model calls, with the name of one node; local functions left out."""
    local = {_key(function.domain, function.name) for function in proto.functions}
    found: dict[Operator, str] = {}
    for node in _nodes(proto):
        key = _key(node.domain, node.op_type)
        if key not in local:
            found.setdefault(key, node.name or (node.output[0] if node.output else ""))
    return found


def _key(domain: str, name: str) -> Operator:
    return ("" if domain == "ai.onnx" else domain), name


def bfloat16_findings(model: PortableModel, runtime: str) -> list[Finding]:
    """Return a finding for each bfloat16 input or output, which no numpy interface carries."""
    return [
        Finding(
            "error",
            f"'{spec.name}' is bfloat16, which {runtime} cannot exchange with numpy.",
            where=spec.name,
            hint="Export the model with float32 inputs and outputs.",
        )
        for spec in (*model.inputs, *model.outputs)
        if spec.dtype == "bfloat16"
    ]


def _bodies(proto: ModelProto) -> Iterator[Any]:
    """Yield the main graph, the functions, and every subgraph of their nodes."""
    pending: list[Any] = [proto.graph, *proto.functions]
    while pending:
        body = pending.pop()
        yield body
        for node in body.node:
            pending.extend(_subgraphs(node))


def _subgraphs(node: NodeProto) -> Iterable[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _nodes(proto: ModelProto) -> Iterator[NodeProto]:
    for body in _bodies(proto):
        yield from body.node


def _tensors(proto: ModelProto) -> Iterator[TensorProto]:
    for body in _bodies(proto):
        yield from getattr(body, "initializer", ())
        for node in body.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
