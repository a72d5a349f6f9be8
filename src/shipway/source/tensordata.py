"""The values of tensors inside an ONNX file: as many bytes as dtype and shape say, and no fewer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from shipway.errors import ModelError
from shipway.source.modelfiles import shown_path

__all__ = ["EXTERNAL_THRESHOLD_BYTES", "check_tensor", "graph_tensors"]

EXTERNAL_THRESHOLD_BYTES = 1 << 30
"""From here on weights go to a file of their own. protobuf ends at 2 GiB, and many tools hold a
model two or three times in memory; below, one file is easier to carry about."""


_AGAIN = "Export or copy it again."
_STRING = 8
_COMPLEX = {14, 15}
_SUB_BYTE_PER_INT32 = {21: 2, 22: 2, 23: 2, 25: 4, 26: 4}
_FIELDS = {
    1: "float_data",
    11: "double_data",
    7: "int64_data",
    12: "uint64_data",
    13: "uint64_data",
    8: "string_data",
    14: "float_data",
    15: "double_data",
}


def graph_tensors(graph: Any) -> Iterator[Any]:
    """Yield every TensorProto of a graph: initializers and attributes, subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from node_tensors(graph.node)


def node_tensors(nodes: Any) -> Iterator[Any]:
    """Yield every TensorProto in the attributes of nodes, subgraphs included."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from graph_tensors(attribute.g)
            for graph in attribute.graphs:
                yield from graph_tensors(graph)


def check_tensor(tensor: Any, path: Path) -> Path | None:
    """Check that a TensorProto holds all its values; return its external data file, if it has one.

    Raises:
        ModelError: Values are missing, or the external file is absent, too short, or outside the
            folder of the model.
    """
    external = {entry.key: entry.value for entry in tensor.external_data}
    size_bytes = _size_bytes(tensor)
    if tensor.data_location == tensor.EXTERNAL:
        return _check_external(tensor, external, size_bytes, path)
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data") and tensor.raw_data:
        found, wanted, unit = len(tensor.raw_data), size_bytes, "bytes"
    else:
        found, wanted, unit = *_typed_count(tensor, count), "values"
    if wanted is not None and found != wanted:
        raise ModelError(
            f"{shown_path(path)}: the tensor '{tensor.name}' {list(tensor.dims)} holds {found} "
            f"{unit}, not {wanted}. The file is truncated or damaged.",
            hint=_AGAIN,
        )
    return None


def _size_bytes(tensor: Any) -> int | None:
    """Bytes the values take when packed; None where the element type has no fixed size."""
    import onnx_ir

    if tensor.data_type == _STRING:
        return None
    try:
        bits: float = onnx_ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError):
        return None
    size: int = math.ceil(math.prod(tensor.dims) * bits / 8)
    return size


def _typed_count(tensor: Any, count: int) -> tuple[int, int]:
    """Return how many entries the typed field of a tensor has, and how many it should have."""
    values = getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))
    per_value = 2 if tensor.data_type in _COMPLEX else 1
    per_entry = _SUB_BYTE_PER_INT32.get(tensor.data_type, 1)
    return len(values), -(-count * per_value // per_entry)


def _check_external(
    tensor: Any, external: dict[str, str], size_bytes: int | None, path: Path
) -> Path:
    location = PurePosixPath(external.get("location", ""))
    name = f"{shown_path(path)}: the tensor '{tensor.name}'"
    if not location.name or location.is_absolute() or ".." in location.parts:
        raise ModelError(
            f"{name} has its values in '{location}', outside the folder of the model.",
            hint="External data must lie beside the model: save it again with "
            "onnx.save(model, path, save_as_external_data=True).",
        )
    data = path.parent / location
    if not data.is_file():
        raise ModelError(
            f"{name} has its values in {shown_path(data)}, which is absent.",
            hint=f"Copy {location} into {shown_path(path.parent)}: the model needs both files.",
        )
    for key in ("offset", "length"):
        if not external.get(key, "0").isdecimal():
            raise ModelError(f"{name} has '{external[key]}' as its {key}.", hint=_AGAIN)
    start = int(external.get("offset", "0"))
    length = int(external.get("length", size_bytes or 0))
    end = start + length
    if end > data.stat().st_size or (size_bytes is not None and length != size_bytes):
        raise ModelError(
            f"{name} {list(tensor.dims)} needs {size_bytes} bytes at {start} in "
            f"{shown_path(data)} ({data.stat().st_size} bytes), where {length} are declared.",
            hint="The data file is truncated or of another model: copy both files again.",
        )
    return data
