"""ONNX files: written with their weights, checked, described, copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError, ModelError, TensorError
from shipway.ops.onnx_schema import alias_schemas
from shipway.tensors import ANY, Dim, TensorSpec, dtype_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = [
    "check_onnx",
    "check_opset",
    "copy_onnx",
    "find_flaw",
    "read_graph",
    "read_specs",
    "save_onnx",
]

_SMALL_BYTES = 1024
_LONGEST_FLAW = 400


def save_onnx(model: ir.Model, path: Path, *, threshold_bytes: int) -> tuple[str, ...]:
    """Write a model, with its weights beside it where they are large.

    Args:
        model: The model; unchanged.
        path: Where to write; large weights go to `<path>.data`.
        threshold_bytes: Size of all weights together from which they are large.

    Returns:
        Names of the files beside the model.
    """
    import onnx_ir as ir

    weights = (
        value.const_value for graph in model.graphs() for value in graph.initializers.values()
    )
    size_bytes = sum(tensor.nbytes for tensor in weights if tensor is not None)
    if size_bytes < threshold_bytes:
        ir.save(model, path)
        return ()
    data = f"{path.name}.data"
    ir.save(model, path, external_data=data, size_threshold_bytes=_SMALL_BYTES)
    return (data,)


def check_onnx(path: Path) -> None:
    """Check a file with ONNX's own checker, which takes files of any size.

    Raises:
        ModelError: The file is not a valid model.
    """
    if flaw := find_flaw(path):
        raise ModelError(
            f"{path} is not a valid ONNX model: {flaw}.",
            hint="See whether the file was copied or downloaded whole; if it was, export it again.",
        )


def find_flaw(path: Path) -> str:
    """Return what ONNX's checker has against a file, "" for nothing."""
    import onnx

    try:
        with alias_schemas():
            onnx.checker.check_model(os.fspath(path))
    except Exception as error:  # noqa: BLE001 -- its own error, protobuf's, or plain ValueError
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(lines)[:_LONGEST_FLAW].rstrip(".") or type(error).__name__
    return ""


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a model without its external weights.

    Raises:
        ModelError: The file is absent or not ONNX.
    """
    import onnx

    try:
        return onnx.load(os.fspath(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is not public
        raise ModelError(
            f"{path} is not an ONNX model: {error}.",
            hint="See whether the file was copied or downloaded whole.",
        ) from error


def check_opset(model: onnx.ModelProto, wanted: int) -> None:
    """Check which opset a file really has.

    Raises:
        ExportError: It is another one than asked for.
    """
    found = opset_of(model)
    if found != wanted:
        raise ExportError(
            f"Opset {wanted} was asked for and the exporter wrote {found}.",
            hint="Use --legacy for opsets 9 to 17, or --opset with another number.",
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the opset of the default domain."""
    versions = {item.domain: item.version for item in model.opset_import}
    return int(versions.get("", versions.get("ai.onnx", 0)))


def read_specs(
    model: onnx.ModelProto,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the specs of a model's inputs and outputs, in order.

    Raises:
        ModelError: An input or output is no tensor, or of a type that Shipway does not carry.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    return tuple(map(_spec, inputs)), tuple(map(_spec, model.graph.output))


def _spec(item: Any) -> TensorSpec:
    kind = item.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ModelError(f"'{item.name}' is a {kind or 'value without a type'}, not a tensor.")
    tensor = item.type.tensor_type
    try:
        dtype = dtype_of(tensor.elem_type).name
    except TensorError as error:
        raise ModelError(f"'{item.name}': {error}") from error
    shape = tuple(map(_dim, tensor.shape.dim)) if tensor.HasField("shape") else None
    return TensorSpec(item.name, dtype, shape)


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else ANY
    return str(dim.dim_param) if str(dim.dim_param).isidentifier() else ANY


def copy_onnx(source: Path, target: Path) -> tuple[str, ...]:
    """Copy a model with its external weights, which keep their names.

    A copy, not a link: exporters write over their old file in place, and would change this one.

    Returns:
        Names of the files beside the model, relative to it.

    Raises:
        ModelError: A file is absent, or lies outside the folder of the model.
    """
    companions = tuple(dict.fromkeys(_locations(read_graph(source).graph)))
    for name in companions:
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ModelError(
                f"{source} keeps weights in {name}, outside its own folder.",
                hint="Save it with its weights beside it: onnx.save(..., location=...).",
            )
        if not (source.parent / name).is_file():
            raise ModelError(f"{source} needs {source.parent / name}, which is absent.")
        if name == target.name:
            raise ModelError(
                f"{source} keeps weights in a file called {name}, as the model is to be."
            )
        copy = target.parent / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, copy)
    shutil.copyfile(source, target)
    return companions


def _locations(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the external file of each tensor, in subgraphs and constants too."""
    for tensor in graph.initializer:
        yield from _location(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _location(attribute.t)
            for tensor in attribute.tensors:
                yield from _location(tensor)
            for inner in (attribute.g, *attribute.graphs):
                yield from _locations(inner)


def _location(tensor: Any) -> Iterator[str]:
    entries: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    if "location" in entries:
        yield entries["location"]
