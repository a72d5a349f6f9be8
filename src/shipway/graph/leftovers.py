"""What a model file holds and onnx_ir does not carry: kept as bytes, and written back.

Training information, sparse initializers, and fields of a newer ONNX than the installed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.weights import SparseTensor

__all__ = [
    "QUANTIZATION",
    "drop_training",
    "has_leftovers",
    "keep_leftovers",
    "leftovers_of",
    "return_leftovers",
    "stand_in_for_sparse",
]

_KEY = "shipway.leftovers"
QUANTIZATION = "quant_parameter_tensor_names"
"""Where onnx_ir keeps, in `Value.meta`, the names of a value's scale and zero point."""


def stand_in_for_sparse(proto: Any) -> None:
    """Declare every sparse initializer among the dense ones too: onnx_ir knows no others."""
    for part in _graph_protos(proto.graph):
        for sparse in part.sparse_initializer:
            values = sparse.values
            part.initializer.add(name=values.name, data_type=values.data_type, dims=sparse.dims)


def keep_leftovers(proto: Any, model: ir.Model) -> None:
    """Attach to a model what its protobuf holds beyond it.

    Raises:
        ModelError: A field of a newer ONNX lies where it cannot be kept.
    """
    rest = type(proto)()
    rest.training_info.extend(proto.training_info)
    model.meta[_KEY] = rest.SerializeToString() + _unknown_bytes(proto)
    has_unknown = _has_unknown(proto)
    for part, graph in _graphs(proto.graph, model.graph):
        _keep_sparse(part, graph)
        if has_unknown:
            _keep_unknown(part, graph)


def _has_unknown(message: Any) -> bool:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return bool(known.ByteSize() != message.ByteSize())


def _keep_unknown(proto: Any, graph: ir.Graph) -> None:
    graph.meta[_KEY] = _unknown_bytes(proto)
    for part in (*proto.input, *proto.output, *proto.value_info, *proto.initializer):
        _refuse_unknown(part, part.name)
    for one, node in zip(proto.node, graph, strict=True):
        node.meta[_KEY] = _unknown_bytes(one)
        for attribute in one.attribute:
            has_graph = attribute.HasField("g") or len(attribute.graphs) > 0
            _refuse_unknown(attribute, f"{one.name}.{attribute.name}", deep=not has_graph)


def _refuse_unknown(message: Any, where: str, *, deep: bool = True) -> None:
    if _has_unknown(message) if deep else _unknown_bytes(message):
        raise ModelError(
            f"has fields of a newer ONNX in '{where}', which would be lost",
            hint="pip install --upgrade onnx onnx-ir",
        )


def _unknown_bytes(message: Any) -> bytes:
    """Return the fields of a message that this ONNX has no name for, as they stood."""
    rest = type(message)()
    rest.CopyFrom(message)
    for field, _ in message.ListFields():
        rest.ClearField(field.name)
    return bytes(rest.SerializeToString())


def _keep_sparse(proto: Any, graph: ir.Graph) -> None:
    for sparse in proto.sparse_initializer:
        value = graph.initializers[sparse.values.name]
        value.const_value = SparseTensor(sparse)


def has_leftovers(model: ir.Model) -> bool:
    """Whether the model itself, beside its graph, holds what onnx_ir does not carry."""
    return bool(leftovers_of(model))


def return_leftovers(model: ir.Model, proto: Any) -> None:
    """Put back what `keep_leftovers` found, into a protobuf just made from the model."""
    proto.MergeFromString(leftovers_of(model))
    for part, graph in _graphs(proto.graph, model.graph):
        if kept := graph.meta.get(_KEY, b""):
            part.MergeFromString(kept)
        for one, node in zip(part.node, graph, strict=True):
            if kept := node.meta.get(_KEY, b""):
                one.MergeFromString(kept)
        _return_sparse(part, graph)


def _return_sparse(proto: Any, graph: ir.Graph) -> None:
    sparse = {
        name: value.const_value
        for name, value in graph.initializers.items()
        if isinstance(value.const_value, SparseTensor)
    }
    if not sparse:
        return
    dense = [one for one in proto.initializer if one.name not in sparse]
    del proto.initializer[:]
    proto.initializer.extend(dense)
    for name, tensor in sparse.items():
        tensor.proto.values.name = name
        proto.sparse_initializer.append(tensor.proto)


def leftovers_of(model: ir.Model) -> bytes:
    """Return what `keep_leftovers` attached to a model, beside its graphs."""
    found: bytes = model.meta.get(_KEY, b"")
    return found


def drop_training(model: ir.Model) -> bool:
    """Drop the training information of a model; say whether there was any."""
    import onnx

    kept = onnx.ModelProto.FromString(leftovers_of(model))
    if not kept.training_info:
        return False
    kept.ClearField("training_info")
    model.meta[_KEY] = kept.SerializeToString()
    return True


def _graph_protos(proto: Any) -> Iterator[Any]:
    yield proto
    for node in proto.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graph_protos(inner)


def _graphs(proto: Any, graph: ir.Graph) -> Iterator[tuple[Any, ir.Graph]]:
    """Yield a graph and all graphs inside it, beside their protobufs."""
    yield proto, graph
    for one, node in zip(proto.node, graph, strict=True):
        for attribute in one.attribute:
            inner = node.attributes[attribute.name]
            if attribute.HasField("g"):
                yield from _graphs(attribute.g, inner.as_graph())
            elif attribute.graphs:
                yield from _pairs(attribute.graphs, inner.as_graphs())


def _pairs(protos: Iterable[Any], graphs: Iterable[ir.Graph]) -> Iterator[tuple[Any, ir.Graph]]:
    for proto, graph in zip(protos, graphs, strict=True):
        yield from _graphs(proto, graph)
