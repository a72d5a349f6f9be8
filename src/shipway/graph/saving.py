"""Saves a graph: the skeleton is written, the weights are moved by the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.files import atomic_path
from shipway.graph.collector import collector_paused
from shipway.graph.leftovers import return_leftovers
from shipway.graph.loading import SMALL_BYTES
from shipway.graph.sink import Sink
from shipway.graph.weights import SparseTensor
from shipway.graph.wire import encode_length_delimited
from shipway.source.tensordata import EXTERNAL_THRESHOLD_BYTES

__all__ = ["save_graph"]

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_PAGE_BYTES = 4096
_PROTOBUF_LIMIT_BYTES = 2**31 - 1


def save_graph(
    model: ir.Model, path: Path, *, external_bytes: int = EXTERNAL_THRESHOLD_BYTES
) -> tuple[str, ...]:
    """Write a model; a reader sees the old file or the whole new one.

    Weights that lie in a file are copied from there by the kernel and never enter the process;
    others are computed, or taken from memory, one at a time.

    Args:
        model: The model; unchanged. It may be saved over the file it was loaded from.
        path: Where to write. Large weights go to `<path>.data`.
        external_bytes: Size of all weights together from which they go to a file of their own.

    Returns:
        Names of the files beside the model.

    Raises:
        OutputError: The folder cannot be written to, or the disk is full.
        ModelError: What is left without the large weights exceeds protobuf's 2 GB.
    """
    large = _large_weights(model)
    proto, tensors = _outline(model, large)
    size_bytes = sum(tensor.nbytes for tensor in large.values())
    with atomic_path(path) as temporary:
        if size_bytes < external_bytes:
            _write_model(temporary, proto, [_Entry(one, large.get(one.name)) for one in tensors])
            return ()
        data = path.with_name(f"{path.name}.data")
        with atomic_path(data) as temporary_data, Sink(temporary_data) as sink:
            for tensor in tensors:
                if tensor.name in large:
                    _move_out(tensor, large[tensor.name], sink, data.name)
        _write_model(temporary, proto, [_Entry(one, None) for one in tensors])
    return (data.name,)


def _large_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    found = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or isinstance(tensor, SparseTensor):
            continue
        if tensor.dtype is not ir.DataType.STRING and tensor.nbytes > SMALL_BYTES:
            found[name] = tensor
    return found


def _outline(model: ir.Model, large: Mapping[str, ir.TensorProtocol]) -> tuple[Any, list[Any]]:
    """Return the model's protobuf without initializers, and those, the large ones without data."""
    import onnx

    with collector_paused(), _without_data(model, large):
        proto = ir.serde.serialize_model(model)
    return_leftovers(model, proto)
    for entry in proto.opset_import:
        if not entry.domain:
            entry.ClearField("domain")  # an empty text that is written takes two bytes
    tensors = [onnx.TensorProto() for _ in proto.graph.initializer]
    for copy, tensor in zip(tensors, proto.graph.initializer, strict=True):
        copy.CopyFrom(tensor)
        if tensor.name in large:
            copy.ClearField("external_data")
            copy.ClearField("data_location")
    del proto.graph.initializer[:]
    _drop_repetitions(proto.graph, set(model.graph.initializers))
    return proto, tensors


def _drop_repetitions(graph: Any, initializers: set[str]) -> None:
    """Drop what onnx_ir adds: the type and shape of an initializer, which has both itself."""
    kept = [
        one
        for one in graph.value_info
        if one.name not in initializers or one.metadata_props or one.doc_string
    ]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)


@contextmanager
def _without_data(model: ir.Model, large: Mapping[str, ir.TensorProtocol]) -> Iterator[None]:
    """While it lasts, the large weights are notes: serializing takes nothing but their outline."""
    initializers = model.graph.initializers
    try:
        for name, tensor in large.items():
            initializers[name].const_value = ir.ExternalTensor(
                "",
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=name,
                doc_string=tensor.doc_string,
                metadata_props=dict(tensor.metadata_props),
            )
        yield
    finally:
        for name, tensor in large.items():
            initializers[name].const_value = tensor


@dataclass(frozen=True, slots=True)
class _Entry:
    """One initializer on its way into the file: its protobuf, and the data that follow it."""

    proto: Any
    data: ir.TensorProtocol | None

    def head(self) -> bytes:
        """Return everything but the data."""
        outline: bytes = self.proto.SerializeToString()
        size_bytes = 0
        if self.data is not None:
            size_bytes = self.data.nbytes
            outline += encode_length_delimited(_TENSOR_RAW_DATA, size_bytes)
        head = encode_length_delimited(_GRAPH_INITIALIZER, len(outline) + size_bytes)
        return head + outline


def _write_model(path: Path, proto: Any, entries: list[_Entry]) -> None:
    heads = [entry.head() for entry in entries]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    weights_bytes = sum(entry.data.nbytes for entry in entries if entry.data is not None)
    body_bytes = len(graph) + sum(map(len, heads)) + weights_bytes
    start = proto.SerializeToString() + encode_length_delimited(_MODEL_GRAPH, body_bytes)
    if len(start) + body_bytes > _PROTOBUF_LIMIT_BYTES:
        raise ModelError(
            "The model exceeds 2 GB even without its large weights, and no ONNX file can.",
            hint="Large constants inside nodes or sub-graphs stay there: make them initializers.",
        )
    with Sink(path) as sink:
        sink.write(start)
        sink.write(graph)
        for head, entry in zip(heads, entries, strict=True):
            sink.write(head)
            if entry.data is not None:
                sink.write_tensor(entry.data)


def _move_out(proto: Any, tensor: ir.TensorProtocol, sink: Sink, location: str) -> None:
    """Write a tensor's data at the next page, and note their place in its protobuf."""
    import onnx

    sink.pad(_PAGE_BYTES)
    places = (("location", location), ("offset", sink.position), ("length", tensor.nbytes))
    sink.write_tensor(tensor)
    proto.data_location = onnx.TensorProto.EXTERNAL
    for key, value in places:
        proto.external_data.add(key=key, value=str(value))
