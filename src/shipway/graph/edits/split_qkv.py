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
from shipway.graph.edits.slices import read_slice
from shipway.graph.edits.weights import changed_weight
from shipway.graph.naming import Names
from shipway.graph.standard import is_standard

__all__ = ["EDIT", "apply"]

_PARTS = 3


def apply(model: ir.Model) -> EditResult:
    """Split each MatMul that makes query, key and value at once into three.

    It is found as exporters write it: MatMul, Add, Reshape to [.., .., 3, heads, size], Transpose
    that brings the 3 to the front; then three Gathers, or a Split or Slices with Squeezes.
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
    parts: dict[int, ir.Value]
    reshape: ir.Node
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
    parts = _parts(transpose.outputs[0])
    if parts is None or any(one.graph is not nodes[0].graph for one in (reshape, transpose)):
        return None
    all_nodes = (*nodes, reshape, transpose)
    return _Match(source, weight, bias, shape, perm, transpose, parts, reshape, all_nodes)


def _parts(value: ir.Value) -> dict[int, ir.Value] | None:
    """Return query, key and value by their number, if nothing else is made of a tensor."""
    found: dict[int, ir.Value | None] = {}
    users = {use.node for use in value.uses()}
    for node in users:
        if node.graph is not value.graph or not is_standard(node):
            return None
        if node.op_type == "Split" and len(node.outputs) == _PARTS:
            found.update(enumerate(map(_squeezed, _thirds(node))))
        elif node.op_type == "Slice":
            found[_sliced(node)] = _squeezed(node.outputs[0])
        elif node.op_type == "Gather":
            found[_gathered(node)] = node.outputs[0]
    parts = {index: one for index, one in found.items() if one is not None and index >= 0}
    is_whole = len(users) in {1, _PARTS} and len(parts) == _PARTS and not value.is_graph_output()
    return parts if is_whole else None


def _thirds(node: ir.Node) -> list[ir.Value]:
    sizes = attribute_of(node, "split")
    given = node.inputs[1] if len(node.inputs) > 1 else None
    sizes = constant_ints(given) if given is not None else sizes
    is_even = sizes == [1] * _PARTS or (sizes is None and given is None)
    return list(node.outputs) if attribute_of(node, "axis", 0) == 0 and is_even else []


def _sliced(node: ir.Node) -> int:
    """Return which of the three a Slice takes; -1 for none."""
    cuts = read_slice(node) or ()
    fits = len(cuts) == 1 and (cuts[0].axis, cuts[0].step) == (0, 1)
    is_one = fits and 0 <= cuts[0].start < _PARTS and cuts[0].end == cuts[0].start + 1
    return cuts[0].start if is_one else -1


def _gathered(node: ir.Node) -> int:
    """Return which of the three a Gather takes; -1 for none."""
    index = constant_array(node.inputs[1])
    fits = attribute_of(node, "axis", 0) == 0 and index is not None and index.ndim == 0
    return int(index) % _PARTS if fits else -1


def _squeezed(value: ir.Value) -> ir.Value | None:
    """Return what a value is once its first axis, of size 1, is gone."""
    node = only_user(value)
    if node is None or node.op_type != "Squeeze" or node.graph is not value.graph:
        return None
    axes = attribute_of(node, "axes") or constant_ints(node.inputs[1] if node.inputs[1:] else None)
    return node.outputs[0] if axes == [0] else None


def _split(splice: Splice, found: _Match) -> None:
    rows, columns = found.weight.shape.numpy()
    size = columns // _PARTS
    shape = [*found.shape[:2], *found.shape[3:]]
    perm = [axis - (axis > 2) for axis in found.perm[1:]]
    results = {}
    for index, old in found.parts.items():
        part = slice(index * size, (index + 1) * size)
        weight = changed_weight(found.weight, _columns(part), (rows, size))
        inputs = [found.source, splice.weight(weight, f"{found.weight.name}_{index}")]
        value = splice.op("MatMul", inputs, like=found.nodes[:1])
        if found.bias is not None:
            bias = changed_weight(found.bias, _columns(part), (size,))
            value = splice.op("Add", [value, splice.weight(bias, f"{found.bias.name}_{index}")])
        value = splice.op("Reshape", [value, splice.ints(*shape)], dict(found.reshape.attributes))
        results[old] = splice.op("Transpose", [value], {"perm": perm})
    splice.finish(results)


def _columns(part: slice) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda array: np.ascontiguousarray(array[..., part])


EDIT = Edit("split-qkv", "reassociating", apply, knowledge="SplitQKVMatmul")
