"""A model file without its large weights: its protobuf, in which they are notes of their places."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.errors import ModelError
from shipway.graph.wire import LENGTH_DELIMITED, Buffer, Field, encode_length_delimited
from shipway.graph.wire import iterate_fields as fields
from shipway.source.modelfiles import find_model_file, shown_path

if TYPE_CHECKING:
    import onnx

__all__ = ["SMALL_BYTES", "naming", "parse", "read_outline", "skeleton"]

SMALL_BYTES = 1024
"""Tensors up to this size are held in memory; larger ones stay in their file."""

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_AGAIN = "See whether the file was copied or downloaded whole; if it was, export it again."


def read_outline(path: Path) -> onnx.ModelProto:
    """Read a model's protobuf; the data of large initializers stay in the file.

    Args:
        path: The .onnx file.

    Returns:
        The model; each large initializer of its main graph is external data: in the file itself,
        or where it was before. Locations are relative to the folder of the file.

    Raises:
        ModelError: The file is absent, truncated or not ONNX.
    """
    path = find_model_file(path)
    with naming(path), path.open("rb") as stream:
        return parse(skeleton(path, stream.fileno()))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Begin messages of the layers below, which know no file, with the file's name."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{shown_path(path)} {error}.", hint=error.hint or _AGAIN) from error


def parse(outline: bytes) -> onnx.ModelProto:
    """Decode what `skeleton` returned.

    Raises:
        ModelError: It is no model; the message lacks the file's name.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships no types

    try:
        return onnx.load_model_from_string(outline)
    except DecodeError as error:
        raise ModelError(
            "is not an ONNX model, or is truncated: its bytes do not decode"
        ) from error


def skeleton(path: Path, descriptor: int) -> bytes:
    """Return the model's bytes with every large initializer replaced by a note of its place.

    Args:
        path: The file, whose name the notes hold.
        descriptor: The open file.

    Raises:
        ModelError: The bytes are no protobuf message; the message lacks the file's name.
    """
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        head: list[bytes] = []
        graph: list[bytes] = []
        for field in fields(data, 0, len(data)):
            if field.number == _MODEL_GRAPH and field.kind == LENGTH_DELIMITED:
                graph += _graph_skeleton(data, field, path.name)
            else:
                head.append(data[field.start : field.end])
    body = b"".join(graph)
    return b"".join((*head, encode_length_delimited(_MODEL_GRAPH, len(body)), body))


def _graph_skeleton(data: mmap.mmap, graph: Field, location: str) -> Iterator[bytes]:
    for field in fields(data, graph.payload, graph.end):
        large = field.number == _GRAPH_INITIALIZER and field.end - field.payload > SMALL_BYTES
        raw = _raw_data(data, field) if large else None
        if raw is None or raw.end - raw.payload <= SMALL_BYTES:
            yield data[field.start : field.end]
            continue
        note = _place_note(location, raw.payload, raw.end - raw.payload)
        tensor = data[field.payload : raw.start] + data[raw.end : field.end] + note
        _let_go(data, field)
        yield encode_length_delimited(_GRAPH_INITIALIZER, len(tensor)) + tensor


def _let_go(data: mmap.mmap, field: Field) -> None:
    """Give the pages of a tensor back: the system maps a whole stretch for each byte looked at."""
    start = field.start - field.start % mmap.PAGESIZE
    data.madvise(mmap.MADV_DONTNEED, start, field.end - start)


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
