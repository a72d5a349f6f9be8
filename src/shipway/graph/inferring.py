"""Dtypes and shapes of a graph's values, inferred from its inputs and weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError

__all__ = ["Inferred", "infer_values", "make_skeleton"]

_SMALL_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Inferred:
    """What is known of a value.

    Attributes:
        dtype: Element type.
        shape: One entry a dimension: a number, the name of a dynamic one, or None. None for a
            value of unknown rank.
    """

    dtype: ir.DataType | None
    shape: tuple[int | str | None, ...] | None


def infer_values(model: ir.Model, *, strict: bool = False) -> dict[str, Inferred]:
    """Infer dtype and shape of every value outside functions, by name.

    Declared shapes of intermediate values and outputs are not read: exporters write false ones.

    Args:
        model: The model; unchanged.
        strict: Refuse shapes that contradict each other instead of leaving them open.

    Raises:
        ModelError: The shapes contradict each other.
    """
    import onnx

    proto = make_skeleton(model)
    for graph in _graph_protos(proto.graph):
        del graph.value_info[:]
        for value in graph.output:
            if value.type.WhichOneof("value") == "tensor_type":
                value.type.tensor_type.ClearField("shape")
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True, strict_mode=strict)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"The shapes of the graph contradict each other: {reason}.") from error
    found = {}
    for graph in _graph_protos(proto.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            found[value.name] = _read(value)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None:
            found[name] = Inferred(tensor.dtype, tuple(tensor.shape.numpy()))
    return found


def _read(value: Any) -> Inferred:
    if value.type.WhichOneof("value") != "tensor_type":
        return Inferred(None, None)
    tensor = value.type.tensor_type
    dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return Inferred(dtype, None)
    return Inferred(dtype, tuple(_dim(one) for one in tensor.shape.dim))


def _dim(dim: Any) -> int | str | None:
    kind = dim.WhichOneof("value")
    return None if kind is None else getattr(dim, kind)


def _graph_protos(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graph_protos(inner)


def make_skeleton(model: ir.Model) -> Any:
    """Return the model's protobuf with its large initializers as inputs, so without their data."""
    graph = model.graph
    before = dict(graph.initializers)
    large = {name: one for name, one in before.items() if _is_large(one)}
    try:
        for name in large:
            del graph.initializers[name]
        proto = ir.serde.serialize_model(model)
    finally:
        graph.initializers.clear()
        graph.initializers.update(before)
    declared = {one.name for one in graph.inputs}
    for name, value in large.items():
        if name not in declared and value.const_value is not None:
            tensor = value.const_value
            info = proto.graph.input.add(name=name).type.tensor_type
            info.elem_type = int(tensor.dtype)
            for size in tensor.shape.numpy():
                info.shape.dim.add(dim_value=size)
    return proto


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return (
        tensor is not None
        and tensor.dtype is not ir.DataType.STRING
        and tensor.nbytes > _SMALL_BYTES
    )
