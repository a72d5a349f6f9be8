"""What keeps a model file from being loaded, put aside so that the rest can be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx_ir as ir

from shipway.graph.locating import all_graphs
from shipway.graph.weights import AbsentTensor

__all__ = ["absent_tensor", "mend_texts", "put_unreadable_aside", "rename_redeclared"]

_READ_ELEMENTS = 1024  # what the facts of a graph read of an initializer


def mend_texts(proto: Any) -> Iterator[str]:
    """Make text of what protobuf could not read as text, and say so once.

    Args:
        proto: The ModelProto; changed.
    """
    count = _mend(proto)
    if count:
        yield f"The file is damaged: names or other texts that are no UTF-8: {count}."


def _mend(message: Any) -> int:
    count = 0
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            inner = value if hasattr(value, "__len__") else [value]
            count += sum(map(_mend, inner))
        elif field.type == field.TYPE_STRING:
            count += _mend_field(message, field.name, value)
    return count


def _mend_field(message: Any, name: str, value: Any) -> int:
    if isinstance(value, bytes):
        setattr(message, name, value.decode("utf-8", "replace"))
        return 1
    if isinstance(value, str):
        return 0
    damaged = [index for index, one in enumerate(value) if isinstance(one, bytes)]
    for index in damaged:
        value[index] = value[index].decode("utf-8", "replace")
    return len(damaged)


def rename_redeclared(proto: Any) -> Iterator[str]:
    """Rename what a graph computes under a name it has already, and say so.

    Args:
        proto: The ModelProto; changed.
    """
    yield from _rename_in_graph(proto.graph)
    for function in proto.functions if hasattr(proto, "functions") else ():
        yield from _rename(function.node, set(function.input))


def _rename_in_graph(graph: Any) -> Iterator[str]:
    taken = {one.name for one in (*graph.input, *graph.initializer)}
    yield from _rename(graph.node, taken)


def _rename(nodes: Any, taken: set[str]) -> Iterator[str]:
    for node in nodes:
        for index, name in enumerate(node.output):
            if name and name in taken:
                yield f"'{name}' is computed twice, again by '{node.name}' ({node.op_type})."
                count = 2
                while f"{name} ({count})" in taken:
                    count += 1
                node.output[index] = f"{name} ({count})"
            taken.add(node.output[index])
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _rename_in_graph(inner)


def absent_tensor(tensor: ir.ExternalTensor, path: Path) -> AbsentTensor | None:
    """Return what stands for a tensor whose bytes are not where they should be; None if they are.

    Args:
        tensor: The tensor.
        path: The model file.
    """
    location = PurePosixPath(str(tensor.location))
    file = path.parent / location
    reason = ""
    if not location.name or location.is_absolute() or ".." in location.parts:
        reason = "it lies outside the folder of the model"
    elif not file.is_file():
        reason = "the file is absent"
    elif tensor.length is not None and tensor.length != tensor.nbytes:
        reason = f"'{tensor.name}' has {tensor.length} bytes in it, not {tensor.nbytes}"
    elif file.stat().st_size < (end := (tensor.offset or 0) + tensor.nbytes):
        reason = f"it ends before byte {end}, where '{tensor.name}' does"
    if not reason:
        return None
    name = "" if str(location) == path.name else str(tensor.location)
    shape = tuple(tensor.shape.numpy())
    return AbsentTensor(tensor.name, tensor.dtype, shape, location=name, reason=reason)


def put_unreadable_aside(model: ir.Model) -> None:
    """Let an `AbsentTensor` stand for tensors of no known type, and small ones that do not read."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _readable(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref():
                    node.attributes[name] = ir.AttrTensor(name, _readable(attribute.value))


def _readable(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if isinstance(tensor, AbsentTensor):
        return tensor
    shape = tuple(tensor.shape.numpy())
    dtype = ir.DataType.UNDEFINED
    try:
        dtype = tensor.dtype
        if tensor.nbytes >= 0 and tensor.size <= _READ_ELEMENTS:
            tensor.numpy()
    except (AssertionError, EOFError, TypeError, ValueError) as error:
        return AbsentTensor(tensor.name, dtype, shape, location="", reason=str(error))
    return tensor
