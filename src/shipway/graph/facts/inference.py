"""Infers what is known of a node's outputs: by our own rules, else by ONNX's, else nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from shipway.graph.attributes import has_references, resolve_attributes
from shipway.graph.building import tensor_of_node
from shipway.graph.facts import contraction, cutting, elementwise, movement
from shipway.graph.facts.calls import infer_call
from shipway.graph.facts.control_flow import CONTROL_FLOW, infer_control_flow
from shipway.graph.facts.dims import Dim, Poly
from shipway.graph.facts.fact import UNKNOWN, Fact
from shipway.graph.facts.knowledge import Knowledge, fact_of_tensor
from shipway.graph.facts.registry import RULES, Call
from shipway.graph.locating import subgraphs_of
from shipway.graph.standard import is_standard

__all__ = ["infer", "infer_graph"]

_MODULES = (contraction, cutting, elementwise, movement)  # imported for the rules they register

_BROKEN_RULES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""A model that breaks an operator's rules is the engine's to refuse: here it is unknown."""


def infer(node: ir.Node, knowledge: Knowledge) -> list[Fact]:
    """Return a fact for each output of a node; it is not noted down."""
    count = len(node.outputs)
    known: ir.Node | None = node
    if has_references(node):
        known = _resolved(node, knowledge)
    if known is None:
        return [UNKNOWN] * count
    if is_standard(node):
        found = _infer(known, node.inputs, knowledge)
    else:
        facts = [knowledge.fact(value) for value in node.inputs]
        found = infer_call(node, known, facts, knowledge, infer_graph)
    return [*found, *[UNKNOWN] * (count - len(found))][:count]


def infer_graph(graph: ir.Graph, knowledge: Knowledge) -> None:
    """Note the facts of every node of a graph."""
    for node in graph:
        for value, fact in zip(node.outputs, infer(node, knowledge), strict=True):
            knowledge.learn(value, fact)


def _resolved(node: ir.Node, knowledge: Knowledge) -> ir.Node | None:
    """Return a stand-in without references, in no graph, whose values have the names of the node's.

    None where an attribute is unknown, or is a graph: that belongs to the node itself.
    """
    attributes = resolve_attributes(node, knowledge.bindings)
    if attributes is None or any(subgraphs_of(node)):
        return None
    inputs = [None if value is None else ir.Value(name=value.name) for value in node.inputs]
    outputs = [ir.Value(name=value.name) for value in node.outputs]
    return ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(attributes.values()),
        overload=node.overload,
        outputs=outputs,
    )


def _infer(
    node: ir.Node, inputs: Sequence[ir.Value | None], knowledge: Knowledge
) -> Sequence[Fact]:
    """Infer an operator of ONNX whose attributes are all known."""
    if node.op_type == "Constant":
        tensor = tensor_of_node(node) if knowledge.is_function else None
        return [UNKNOWN if tensor is None else fact_of_tensor(tensor)]
    if node.op_type in CONTROL_FLOW:
        with contextlib.suppress(*_BROKEN_RULES):
            return infer_control_flow(node, knowledge, lambda graph: infer_graph(graph, knowledge))
        return []
    facts = [knowledge.fact(value) for value in inputs]
    rule = RULES.get(node.op_type)
    call = Call(node, inputs, facts, knowledge)
    own: Sequence[Fact] | None = None
    if rule is not None and facts:
        with contextlib.suppress(*_BROKEN_RULES):
            own = rule(call)
    return _by_schema(call) if own is None else own


def _by_schema(call: Call) -> list[Fact]:
    """Ask ONNX's own inference for one node: dtypes, and the sizes that are plain numbers."""
    import onnx

    node, knowledge = call.node, call.knowledge
    try:
        schema = onnx.defs.get_schema(node.op_type, knowledge.opset, "")
        types = _input_types(call)
        if types is None:
            return []
        proto = ir.serde.serialize_node(node)
        result = onnx.shape_inference.infer_node_outputs(schema, proto, types, _small_inputs(call))
    except Exception:  # noqa: BLE001 -- onnx raises errors of its own; a node it refuses is the engine's to judge
        return []
    return [_fact(result.get(value.name), knowledge) for value in node.outputs]


def _input_types(call: Call) -> dict[str, Any] | None:
    from onnx import helper

    types = {}
    for value, fact in zip(call.inputs, call.facts, strict=True):
        if value is None:
            continue
        if fact.dtype is None or value.name is None:
            return None
        dims = None if fact.shape is None else [_named(dim) for dim in fact.shape]
        types[value.name] = helper.make_tensor_type_proto(int(fact.dtype), dims)
    return types


def _named(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else repr(dim)


def _small_inputs(call: Call) -> dict[str, Any]:
    import onnx

    found = {}
    for value in call.inputs:
        if value is None or value.name is None or not call.knowledge.is_constant(value):
            continue
        tensor = call.knowledge.tensor(value)
        if tensor is not None and tensor.nbytes <= 1024:
            proto = onnx.TensorProto()
            ir.serde.serialize_tensor_into(proto, ir.tensor(tensor.numpy(), name=value.name))
            found[value.name] = proto
    return found


def _fact(proto: Any, knowledge: Knowledge) -> Fact:
    if proto is None or not proto.HasField("tensor_type"):
        return UNKNOWN
    dtype = ir.DataType(proto.tensor_type.elem_type)
    if not proto.tensor_type.HasField("shape"):
        return Fact(dtype)
    dims: list[int | Poly] = [
        int(dim.dim_value) if dim.HasField("dim_value") else knowledge.fresh()
        for dim in proto.tensor_type.shape.dim
    ]
    return Fact(dtype, tuple(dims))
