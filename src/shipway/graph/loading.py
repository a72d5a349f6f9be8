"""Loads an ONNX file without its weights: large tensors stay in the file until they are needed."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.collector import collector_paused
from shipway.graph.damage import (
    absent_tensor,
    mend_texts,
    put_unreadable_aside,
    rename_redeclared,
)
from shipway.graph.leftovers import keep_leftovers, stand_in_for_sparse
from shipway.graph.weights import StoredTensor, WeightFile
from shipway.graph.wire import LENGTH_DELIMITED, Buffer, Field, encode_length_delimited
from shipway.graph.wire import iterate_fields as fields
from shipway.source.graphs import check_graph
from shipway.source.modelfiles import find_model_file, shown_path

if TYPE_CHECKING:
    import onnx

__all__ = ["SMALL_BYTES", "load_anyway", "load_graph", "read_outline"]

SMALL_BYTES = 1024
"""Tensors up to this size are held in memory; larger ones stay in their file."""

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_Stored = Callable[[ir.ExternalTensor, Path, dict[str, WeightFile]], ir.TensorProtocol]
_AGAIN = "See whether the file was copied or downloaded whole; if it was, export it again."


def load_graph(path: Path) -> ir.Model:
    """Load an ONNX model of any size; its large weights are references into their files.

    Metadata, doc strings, functions, training information, sparse initializers and fields of a
    newer ONNX all come along and are written back by `save_graph`.

    Args:
        path: The .onnx file. Its external data may be up to any size, in the folder of the model.

    Returns:
        The model. Each weight above 1 KiB is a `StoredTensor`; `const_value.numpy()` reads it.

    Raises:
        ModelError: The file is absent, truncated or not ONNX; it lacks external data, or names
            some outside its folder; or it holds what cannot be carried (a map, a sparse
            attribute, unknown fields inside attributes).

    Example:
        >>> from pathlib import Path
        >>> load_graph(Path("absent.onnx"))
        Traceback (most recent call last):
        ...
        shipway.errors.ModelError: No such file: absent.onnx.
    """
    path = find_model_file(path)
    with collector_paused():
        return _load(path)


def load_anyway(path: Path) -> tuple[ir.Model, tuple[str, ...]]:
    """Load a model to look at; of one that `load_graph` refuses, what there is.

    Such a model is neither to be run nor to be saved: a tensor whose numbers are not there is an
    `AbsentTensor`, and a value that is computed a second time has another name.

    Args:
        path: The .onnx file.

    Returns:
        The model, and what is wrong with it.

    Raises:
        ModelError: There is too little: the file is absent or no ONNX model, or it holds what
            cannot be carried.
    """
    path = find_model_file(path)
    with collector_paused(), _quiet():
        return _load_anyway(path)


def _load_anyway(path: Path) -> tuple[ir.Model, tuple[str, ...]]:
    file = WeightFile(path)
    with _naming(path):
        proto = _parse(_skeleton(path, file))
    problems = list(mend_texts(proto))
    try:
        check_graph(proto, path)
    except ModelError as error:
        if not proto.graph.node and not proto.graph.output:
            raise
        problems.append(str(error))
    problems += rename_redeclared(proto)
    with _naming(path):
        stand_in_for_sparse(proto)
        model = _deserialize(proto)
    try:
        keep_leftovers(proto, model)
    except ModelError as error:
        problems.append(f"The file {error}.")
    except TypeError as error:
        problems.append(f"{error}.")
    _store_external(model, path, file, _stored_or_absent)
    put_unreadable_aside(model)
    return model, tuple(problems)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnx_ir from logging what is told as a problem."""
    log = logging.getLogger("onnx_ir")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def read_outline(path: Path) -> onnx.ModelProto:
    """Read a model's protobuf; the data of large initializers stay in the file.

    Args:
        path: The .onnx file.

    Raises:
        ModelError: The file is absent, truncated or not ONNX.
    """
    path = find_model_file(path)
    with _naming(path):
        return _parse(_skeleton(path, WeightFile(path)))


def _load(path: Path) -> ir.Model:
    file = WeightFile(path)
    with _naming(path):
        proto = _parse(_skeleton(path, file))
    check_graph(proto, path)
    with _naming(path):
        stand_in_for_sparse(proto)
        model = _deserialize(proto)
        keep_leftovers(proto, model)
    _store_external(model, path, file)
    return model


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Begin messages of the layers below, which know no file, with the file's name."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{shown_path(path)} {error}.", hint=error.hint or _AGAIN) from error


def _parse(skeleton: bytes) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships no types

    try:
        return onnx.load_model_from_string(skeleton)
    except DecodeError as error:
        raise ModelError(
            "is not an ONNX model, or is truncated: its bytes do not decode"
        ) from error


def _deserialize(proto: Any) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).partition(". ")[0].strip().rstrip(".")
        raise ModelError(
            f"holds what Shipway's graphs cannot carry: {reason}",
            hint="Convert sparse constants to dense ones, and maps to tensors, before.",
        ) from error


def _skeleton(path: Path, file: WeightFile) -> bytes:
    """Return the model's bytes with every large initializer replaced by a note of its place."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head: list[bytes] = []
        graph: list[bytes] = []
        for field in fields(data, 0, len(data)):
            if field.number == _MODEL_GRAPH and field.kind == LENGTH_DELIMITED:
                graph += _graph_skeleton(data, field, path.name)
            else:
                head.append(data[field.start : field.end])
    body = b"".join(graph)
    return b"".join((*head, encode_length_delimited(_MODEL_GRAPH, len(body)), body))


def _graph_skeleton(data: Any, graph: Field, location: str) -> Iterator[bytes]:
    for field in fields(data, graph.payload, graph.end):
        large = field.number == _GRAPH_INITIALIZER and field.end - field.payload > SMALL_BYTES
        raw = _raw_data(data, field) if large else None
        if raw is None or raw.end - raw.payload <= SMALL_BYTES:
            yield data[field.start : field.end]
            continue
        note = _place_note(location, raw.payload, raw.end - raw.payload)
        tensor = data[field.payload : raw.start] + data[raw.end : field.end] + note
        yield encode_length_delimited(_GRAPH_INITIALIZER, len(tensor)) + tensor


def _raw_data(data: Buffer, tensor: Field) -> Field | None:
    found = None
    for field in fields(data, tensor.payload, tensor.end):
        if field.number == _TENSOR_RAW_DATA:
            found = field
    return found


def _place_note(location: str, offset: int, length: int) -> bytes:
    """Return the fields of a tensor that say its data lie elsewhere: here, in the model file."""
    import onnx

    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return bytes(tensor.SerializeToString())


def _store_external(
    model: ir.Model, path: Path, file: WeightFile, stored: _Stored | None = None
) -> None:
    """Give every tensor that lies in a file a reference to that file, opened once."""
    stored = stored or _stored
    files = {path.name: file}
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = stored(value.const_value, path, files)
    for body in (*model.graphs(), *model.functions.values()):
        for node in body:
            _store_attributes(node, path, files, stored)


def _store_attributes(
    node: ir.Node, path: Path, files: dict[str, WeightFile], stored: _Stored
) -> None:
    for name, attribute in list(node.attributes.items()):
        if isinstance(attribute.value, ir.ExternalTensor):
            tensor = stored(attribute.value, path, files)
            node.attributes[name] = ir.AttrTensor(name, tensor)


def _stored(tensor: ir.ExternalTensor, path: Path, files: dict[str, WeightFile]) -> StoredTensor:
    location = str(tensor.location)
    if location not in files:
        files[location] = WeightFile(path.parent / location)
    return StoredTensor(
        files[location],
        tensor.offset or 0,
        tensor.name,
        tensor.dtype,
        tuple(tensor.shape.numpy()),
        doc_string=tensor.doc_string,
        metadata=dict(tensor.metadata_props),
    )


def _stored_or_absent(
    tensor: ir.ExternalTensor, path: Path, files: dict[str, WeightFile]
) -> ir.TensorProtocol:
    return absent_tensor(tensor, path) or _stored(tensor, path, files)
