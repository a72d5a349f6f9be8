"""Replaces Gathers that take a tensor apart by one Split."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, constant_array, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.inferring import infer_values
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, limit: int = 16) -> EditResult:
    """Replace Gathers that take every index of an axis, one each, by one Split and Squeezes.

    Args:
        model: The model.
        limit: Longest axis to split.
    """
    names = Names(model)
    known = infer_values(model)
    groups: dict[tuple[ir.Value, int, ir.Graph | None], list[ir.Node]] = {}
    for node in nodes_of_type(model, "Gather"):
        axis = attribute_of(node, "axis", 0)
        if node.inputs[0] is not None and axis is not None:
            groups.setdefault((node.inputs[0], axis, node.graph), []).append(node)
    changed = 0
    for (value, axis, _), nodes in groups.items():
        one = known.get(value.name or "")
        shape = None if one is None else one.shape
        size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        if isinstance(size, int) and 1 < size <= limit and _take_all(nodes, size):
            _split(model, names, nodes, axis, size)
            changed += len(nodes)
    return EditResult(EDIT.name, changed)


def _index(node: ir.Node, size: int) -> int | None:
    array = constant_array(node.inputs[1])
    return None if array is None or array.ndim else int(array) % size


def _take_all(nodes: list[ir.Node], size: int) -> bool:
    return {_index(node, size) for node in nodes} == set(range(size))


def _split(model: ir.Model, names: Names, nodes: list[ir.Node], axis: int, size: int) -> None:
    opset = model.opset_imports.get("", 0)
    splice = Splice(model, names, nodes[0])
    inputs, attributes = [nodes[0].inputs[0]], {"axis": axis}
    if opset >= 18:
        attributes["num_outputs"] = size
    parts = splice.ops("Split", inputs, size, attributes)
    for node in nodes:
        index = _index(node, size)
        assert index is not None, "the caller has looked"  # noqa: S101
        own = Splice(model, names, node)
        own.finish({node.outputs[0]: own.squeeze(parts[index], axis)})


EDIT = Edit("gather-to-split", "exact", apply, knowledge="GatherToSplit")
