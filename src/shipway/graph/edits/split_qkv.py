"""Splits the one MatMul of query, key and value into three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.building import (
    Splice,
    attribute_of,
    constant_array,
    constant_ints,
    constant_tensor,
    nodes_of_type,
    only_user,
)
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.weights import changed_weight
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]

_PARTS = 3


def apply(model: ir.Model) -> EditResult:
    """Split each MatMul that makes query, key and value at once into three.

    It is found as exporters write it: MatMul, Add, Reshape to [.., .., 3, heads, size], Transpose
    that brings the 3 to the front, and three Gathers.
    """
    names = Names(model)
    changed = 0
    for node in nodes_of_type(model, "MatMul"):
        found = _match(node)
        if found is not None:
            _split(Splice(model, names, found.transpose, found.nodes), found)
            changed += 1
    return EditResult(EDIT.name, changed)


@dataclass(frozen=True, slots=True)
class _Match:
    source: ir.Value
    weight: ir.TensorProtocol
    bias: ir.TensorProtocol | None
    shape: list[int]
    perm: list[int]
    transpose: ir.Node
    gathers: dict[int, ir.Node]
    nodes: tuple[ir.Node, ...]


def _match(node: ir.Node) -> _Match | None:
    weight = constant_tensor(node.inputs[1])
    source, nodes, bias = node.inputs[0], [node], None
    if weight is None or source is None or len(weight.shape.numpy()) != 2:
        return None
    after = only_user(node.outputs[0])
    if after is not None and after.op_type == "Add":
        other = after.inputs[1] if after.inputs[0] is node.outputs[0] else after.inputs[0]
        bias = constant_tensor(other)
        if bias is None or tuple(bias.shape.numpy()) != (weight.shape.numpy()[1],):
            return None
        nodes.append(after)
        after = only_user(after.outputs[0])
    return None if after is None else _match_heads(source, weight, bias, after, nodes)


def _match_heads(
    source: ir.Value,
    weight: ir.TensorProtocol,
    bias: ir.TensorProtocol | None,
    reshape: ir.Node,
    nodes: list[ir.Node],
) -> _Match | None:
    shape = constant_ints(reshape.inputs[1]) if reshape.op_type == "Reshape" else None
    transpose = only_user(reshape.outputs[0])
    if shape is None or transpose is None or transpose.op_type != "Transpose":
        return None
    perm = attribute_of(transpose, "perm")
    if len(shape) != 5 or shape[2] != _PARTS or min(shape[3:]) < 1 or not perm or perm[0] != 2:
        return None
    if _PARTS * shape[3] * shape[4] != weight.shape.numpy()[1]:
        return None
    users = [use.node for use in transpose.outputs[0].uses()]
    gathers = {index: user for user in users if (index := _part_of(user)) is not None}
    if transpose.outputs[0].is_graph_output() or not len(users) == len(gathers) == _PARTS:
        return None
    if any(one.graph is not nodes[0].graph for one in (*users, reshape, transpose)):
        return None
    all_nodes = (*nodes, reshape, transpose)
    return _Match(source, weight, bias, shape, perm, transpose, gathers, all_nodes)


def _part_of(node: ir.Node) -> int | None:
    """Return which of the three a Gather takes."""
    if node.op_type != "Gather" or node.domain or attribute_of(node, "axis", 0) != 0:
        return None
    index = constant_array(node.inputs[1])
    return int(index) % _PARTS if index is not None and index.ndim == 0 else None


def _split(splice: Splice, found: _Match) -> None:
    rows, columns = found.weight.shape.numpy()
    size = columns // _PARTS
    shape = [*found.shape[:2], *found.shape[3:]]
    perm = [axis - (axis > 2) for axis in found.perm[1:]]
    results = {}
    for index, gather in found.gathers.items():
        part = slice(index * size, (index + 1) * size)
        weight = changed_weight(found.weight, _columns(part), (rows, size))
        inputs = [found.source, splice.weight(weight, f"{found.weight.name}_{index}")]
        value = splice.op("MatMul", inputs, like=found.nodes[:1])
        if found.bias is not None:
            bias = changed_weight(found.bias, _columns(part), (size,))
            value = splice.op("Add", [value, splice.weight(bias, f"{found.bias.name}_{index}")])
        value = splice.op("Reshape", [value, splice.ints(*shape)])
        results[gather.outputs[0]] = splice.op("Transpose", [value], {"perm": perm})
    splice.finish(results)


def _columns(part: slice) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda array: np.ascontiguousarray(array[..., part])


EDIT = Edit("split-qkv", "reassociating", apply, knowledge="SplitQKVMatmul")
