"""Converts one node, in a model of its own, with onnx's version converter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.building import constant_array
from shipway.graph.inferring import Inferred
from shipway.graph.schemas import find_schema, form_problem

__all__ = ["check_single", "convert_model", "convert_single", "place_of", "single_model"]


def convert_single(
    node: ir.Node, before: int, version: int, known: Mapping[str, Inferred]
) -> ir.Graph:
    """Return what a node is in another opset, as a graph whose inputs are the node's.

    Raises:
        ModelError: The converter refuses it, or what came out is not valid.
    """
    graph = ir.serde.deserialize_model(
        convert_model(single_model(node, before, known), version)
    ).graph
    check_single(graph, version)
    return graph


def convert_model(proto: Any, version: int) -> Any:
    """Convert a small model.

    Raises:
        ModelError: The converter refuses it.
    """
    import onnx

    return onnx.load_model_from_string(_convert_bytes(proto.SerializeToString(), version))


@lru_cache(maxsize=256)
def _convert_bytes(model: bytes, version: int) -> bytes:
    """Convert a model; equal ones, as the layers of a network give, are converted once."""
    import onnx.version_converter

    try:
        converted = onnx.version_converter.convert_version(
            onnx.load_model_from_string(model), version
        )
    except Exception as error:
        # The converter throws what C++ throws.
        raise ModelError(_reason(error)) from error
    return bytes(converted.SerializeToString())


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    last = text[-1] if text else type(error).__name__
    if "No Adapter" in last:
        return "onnx has no rule for it"
    return last.rpartition("failed: ")[2].strip().rstrip(".") or last


def check_single(graph: ir.Graph, version: int) -> None:
    """Refuse nodes that the schemas of an opset rule out.

    Raises:
        ModelError: With what is wrong.
    """
    for node in graph:
        schema = find_schema(node.op_type, node.domain, version)
        problem = "it does not exist there" if schema is None else form_problem(node, schema)
        if problem:
            raise ModelError(problem)


def single_model(node: ir.Node, version: int, known: Mapping[str, Inferred]) -> Any:
    """Return a model of one node. Small constants come as Constant nodes, other inputs as inputs."""
    import onnx
    from onnx import helper

    if any(one.is_ref() for one in node.attributes.values()):
        raise ModelError("an attribute of it is given by the function it is in")
    attributes = [ir.serde.serialize_attribute(one) for one in node.attributes.values()]
    graph = onnx.GraphProto(name="single")
    names = []
    for number, value in enumerate(node.inputs):
        name = "" if value is None else f"input_{number}"
        names.append(name)
        if value is None:
            continue
        graph.input.append(_value_info(name, value, known))
        array = constant_array(value, limit_bytes=4096)
        if array is not None:
            graph.initializer.append(ir.serde.serialize_tensor(ir.tensor(array, name=name)))
    outputs = [f"output_{number}" if one.name else "" for number, one in enumerate(node.outputs)]
    one = helper.make_node(node.op_type, names, outputs, name="node")
    one.attribute.extend(attributes)
    graph.node.append(one)
    for name, value in zip(outputs, node.outputs, strict=True):
        if name:
            graph.output.append(_value_info(name, value, known))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def place_of(value: ir.Value) -> int:
    """Return which input or output of the node an input or output of its model stands for."""
    return int((value.name or "").rpartition("_")[2])


def _value_info(name: str, value: ir.Value, known: Mapping[str, Inferred]) -> Any:
    import onnx

    info = onnx.ValueInfoProto(name=name)
    one = known.get(value.name or "", Inferred(value.dtype, None))
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        ir.serde.serialize_type_into(info.type, value.type)
        return info
    tensor = info.type.tensor_type
    tensor.elem_type = int(one.dtype or value.dtype or ir.DataType.UNDEFINED)
    if one.shape is not None:
        tensor.shape.SetInParent()
        for size in one.shape:
            dim = tensor.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = str(size or "unknown")
    return info
