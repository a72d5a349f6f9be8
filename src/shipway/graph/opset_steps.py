"""Converts a node down, one version after another, with rules onnx's converter lacks.

onnx has few rules downwards: most operators were only given more element types or attributes with
a default, and then a node that uses none of the new ones is the same node. That is decided here
from the schemas. Operators whose meaning changed are listed, with a rule or a refusal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.inferring import Inferred
from shipway.graph.schemas import find_schema
from shipway.graph.single_node import check_single, convert_model, single_model

__all__ = ["step_down"]


def step_down(node: ir.Node, before: int, version: int, known: Mapping[str, Inferred]) -> ir.Graph:
    """Return what a node is in an older opset, as a graph whose inputs are the node's.

    Raises:
        ModelError: It cannot be expressed there.
    """
    proto = single_model(node, before, known)
    for target in range(before - 1, version - 1, -1):
        proto = _down_one(proto, target)
    graph = ir.serde.deserialize_model(proto).graph
    check_single(graph, version)
    return graph


def _down_one(proto: Any, target: int) -> Any:
    missing = {node.op_type for node in proto.graph.node if _since(node, target) is None}
    if missing:
        proto = _expand(proto, missing)
    redefined = [
        node for node in proto.graph.node if _since(node, target + 1) != _since(node, target)
    ]
    ruled = [_RULES.get((node.op_type, target)) for node in redefined]
    if any(rule is not None for rule in ruled) or _same_form(proto, redefined, target):
        for node, rule in zip(redefined, ruled, strict=True):
            if rule is not None:
                rule(node, proto.graph)
            _drop_defaults(node, target)
        _stamp(proto, target)
        return proto
    if not redefined:
        _stamp(proto, target)
        return proto
    return _by_converter(proto, redefined, target)


def _by_converter(proto: Any, redefined: list[Any], target: int) -> Any:
    for node in redefined:
        if _has_negative_axis(node) and target < 11:
            raise ModelError("it counts an axis from the end, which is new in opset 11")
    converted = convert_model(proto, target)
    for node in converted.graph.node:
        _drop_defaults(node, target)
    return converted


def _expand(proto: Any, kinds: set[str]) -> Any:
    """Replace operators the older opset lacks by their definitions in ONNX, where it has those."""
    import onnx.inliner

    names = [("", kind) for kind in sorted(kinds)]
    try:
        expanded = onnx.inliner.inline_selected_functions(
            proto, names, inline_schema_functions=True
        )
    except Exception as error:
        # The inliner throws what C++ throws.
        reason = str(error).strip().splitlines()[-1].rpartition(": ")[2]
        raise ModelError(f"its definition in ONNX cannot be inserted ({reason})") from error
    if any(attribute.HasField("g") for node in expanded.graph.node for attribute in node.attribute):
        raise ModelError("its definition in ONNX branches, and only straight ones are inserted")
    left = {node.op_type for node in expanded.graph.node} & kinds
    if left:
        raise ModelError(f"there is no {min(left)} before opset {proto.opset_import[0].version}")
    return expanded


def _has_negative_axis(node: Any) -> bool:
    for attribute in node.attribute:
        if attribute.name in {"axis", "axes"} and min((attribute.i, *attribute.ints)) < 0:
            return True
    return False


def _since(node: Any, version: int) -> int | None:
    schema = find_schema(node.op_type, node.domain, version)
    return None if schema is None else int(schema.since_version)


def _stamp(proto: Any, version: int) -> None:
    del proto.opset_import[:]
    proto.opset_import.add(domain="", version=version)


def _same_form(proto: Any, nodes: list[Any], target: int) -> bool:
    """Whether nodes are in the older opset what they are in the newer one, defaults dropped."""
    if any((node.op_type, target) in _CHANGED for node in nodes):
        return False
    for node in nodes:
        if _has_negative_axis(node) and target < 11:
            return False
        if _since(node, target) is None or not _fits(node, target):
            return False
    trial = copy.deepcopy(proto)
    for node in trial.graph.node:
        _drop_defaults(node, target)
    _stamp(trial, target)
    try:
        check_single(ir.serde.deserialize_model(trial).graph, target)
    except ModelError:
        return False
    return len(nodes) > 0


def _fits(node: Any, target: int) -> bool:
    """Whether the older schema has all attributes the node sets to something but the default."""
    old = find_schema(node.op_type, node.domain, target)
    new = find_schema(node.op_type, node.domain, target + 1)
    assert old is not None, "the caller has looked"  # noqa: S101
    assert new is not None, "the caller has looked"  # noqa: S101
    for attribute in node.attribute:
        if attribute.name not in old.attributes and not _is_default(attribute, new):
            return False
    for name, one in new.attributes.items():
        other = old.attributes.get(name)
        given = any(attribute.name == name for attribute in node.attribute)
        if not given and other is not None and other.default_value != one.default_value:
            return False
    return bool(len(node.input) <= old.max_input and len(node.output) <= old.max_output)


def _is_default(attribute: Any, schema: Any) -> bool:
    one = schema.attributes.get(attribute.name)
    if one is None or not one.default_value.name:
        return False
    import onnx

    return bool(
        onnx.helper.get_attribute_value(attribute)
        == onnx.helper.get_attribute_value(one.default_value)
    )


def _drop_defaults(node: Any, target: int) -> None:
    """Drop attributes the older operator does not have, where they say what it does anyway."""
    old = find_schema(node.op_type, node.domain, target)
    new = find_schema(node.op_type, node.domain, target + 1)
    if old is None or new is None:
        return
    kept = [
        one for one in node.attribute if one.name in old.attributes or not _is_default(one, new)
    ]
    if len(kept) < len(node.attribute):
        del node.attribute[:]
        node.attribute.extend(kept)


def _attribute(node: Any, name: str, default: Any = None) -> Any:
    import onnx

    for one in node.attribute:
        if one.name == name:
            return onnx.helper.get_attribute_value(one)
    return default


def _remove(node: Any, name: str) -> None:
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _set(node: Any, name: str, value: Any) -> None:
    import onnx

    _remove(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _constant(node: Any, index: int, graph: Any) -> Any:
    """Return the numbers of a constant input, None for one left out."""
    if index >= len(node.input) or not node.input[index]:
        return None
    name = node.input[index]
    made = [one for one in graph.node if one.op_type == "Constant" and one.output[0] == name]
    tensors = [_attribute(one, "value") for one in made]
    for tensor in (*graph.initializer, *(one for one in tensors if one is not None)):
        if tensor.name == name or made:
            return ir.serde.deserialize_tensor(tensor).numpy()
    raise ModelError(f"its input {index} is computed, and an attribute there")


def _inputs_to_attributes(node: Any, graph: Any, names: Mapping[int, str]) -> None:
    for index, name in names.items():
        array = _constant(node, index, graph)
        if array is not None:
            _set(node, name, array.tolist())
    del node.input[min(names) :]


def _grid_sample_19(node: Any, graph: Any) -> None:
    _refuse_rank(node, graph, 4)
    names = {b"linear": "bilinear", b"cubic": "bicubic", b"nearest": "nearest"}
    _set(node, "mode", names[_attribute(node, "mode", b"linear")])


def _refuse_rank(node: Any, graph: Any, rank: int) -> None:
    for value in graph.input:
        if value.name == node.input[0] and value.type.tensor_type.HasField("shape"):
            if len(value.type.tensor_type.shape.dim) == rank:
                return
            break
    raise ModelError(f"it takes {rank} dimensions there, and its input has others")


def _split_17(node: Any, graph: Any) -> None:
    if len(node.input) > 1 and node.input[1]:
        return
    count = _attribute(node, "num_outputs", len(node.output))
    axis = _attribute(node, "axis", 0)
    for value in graph.input:
        if value.name == node.input[0] and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            size = dims[axis].dim_value if -len(dims) <= axis < len(dims) else 0
            if size and size % count == 0:
                _remove(node, "num_outputs")
                return
    raise ModelError("it may give parts of different sizes, which must be listed there")


def _roi_align_15(node: Any, graph: Any) -> None:
    del graph
    if _attribute(node, "coordinate_transformation_mode", b"half_pixel") != b"output_half_pixel":
        raise ModelError("it samples at half pixels, which opset 15 does not")
    _remove(node, "coordinate_transformation_mode")


def _quantize_12(node: Any, graph: Any) -> None:
    for value in graph.input:
        if value.name == node.input[1] and value.type.tensor_type.HasField("shape"):
            if not value.type.tensor_type.shape.dim:
                _remove(node, "axis")
                return
            break
    raise ModelError("it has a scale for each channel, and opset 12 has one for all")


def _clip_10(node: Any, graph: Any) -> None:
    for index, name in ((1, "min"), (2, "max")):
        array = _constant(node, index, graph)
        if array is not None:
            _set(node, name, float(array))
    del node.input[1:]


def _slice_9(node: Any, graph: Any) -> None:
    steps = _constant(node, 4, graph)
    if steps is not None and np.any(steps != 1):
        raise ModelError("it has steps, which are new in opset 10")
    axes = _constant(node, 3, graph)
    if axes is not None and np.any(axes < 0):
        raise ModelError("it counts an axis from the end, which is new in opset 10")
    _inputs_to_attributes(node, graph, {1: "starts", 2: "ends", 3: "axes"})


def _pad_10(node: Any, graph: Any) -> None:
    value = _constant(node, 2, graph)
    _set(node, "pads", _constant(node, 1, graph).tolist())
    _set(node, "value", 0.0 if value is None else float(value))
    del node.input[1:]


def _pad_17(node: Any, graph: Any) -> None:
    if len(node.input) > 3 and node.input[3]:
        raise ModelError("it names the axes it pads, which is new in opset 18")
    del graph, node.input[3:]


def _dropout_11(node: Any, graph: Any) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise ModelError("its mask is read, and opset 11 does not say what that is")
    training = _constant(node, 2, graph)
    if training is not None and bool(training):
        raise ModelError("it drops at random while training")
    ratio = _constant(node, 1, graph)
    _remove(node, "seed")
    _set(node, "ratio", 0.5 if ratio is None else float(ratio))
    del node.input[1:]


def _resize_12(node: Any, graph: Any) -> None:
    """Put empty tensors where opset 12 wants roi and scales, needed or not."""
    while len(node.input) < 3:
        node.input.append("")
    for index, name in ((1, "resize_roi"), (2, "resize_scales")):
        if not node.input[index]:
            empty = ir.tensor(np.zeros(0, np.float32), name=name)
            graph.initializer.append(ir.serde.serialize_tensor(empty))
            node.input[index] = name


def _pool_21(node: Any, graph: Any) -> None:
    del graph
    if _attribute(node, "ceil_mode", 0):
        raise ModelError("it rounds sizes up, and opset 22 changed how")


def _constant_11(node: Any, graph: Any) -> None:
    del graph
    for name, dtype in _CONSTANT_FORMS.items():
        value = _attribute(node, name)
        if value is not None:
            tensor = ir.serde.serialize_tensor(ir.tensor(np.asarray(value, dtype)))
            _remove(node, name)
            _set(node, "value", tensor)


def _topk_9(node: Any, graph: Any) -> None:
    _set(node, "k", int(_constant(node, 1, graph).reshape(-1)[0]))
    del node.input[1:]


def _softmax_12(node: Any, graph: Any) -> None:
    axis = _attribute(node, "axis", -1)
    for value in graph.input:
        if value.name == node.input[0] and value.type.tensor_type.HasField("shape"):
            rank = len(value.type.tensor_type.shape.dim)
            if axis not in {-1, rank - 1}:
                raise ModelError("it is over an inner axis, and there it flattens the ones behind")
            _set(node, "axis", rank - 1)
            return
    raise ModelError("the rank of its input is not known, and its axis counts from the front there")


_CONSTANT_FORMS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}
_RULES: dict[tuple[str, int], Callable[[Any, Any], None]] = {
    ("AveragePool", 21): _pool_21,
    ("MaxPool", 21): _pool_21,
    ("GridSample", 19): _grid_sample_19,
    ("Resize", 12): _resize_12,
    ("Split", 17): _split_17,
    ("RoiAlign", 15): _roi_align_15,
    ("QuantizeLinear", 12): _quantize_12,
    ("DequantizeLinear", 12): _quantize_12,
    ("Clip", 10): _clip_10,
    ("Slice", 9): _slice_9,
    ("Pad", 10): _pad_10,
    ("Pad", 17): _pad_17,
    ("Dropout", 11): _dropout_11,
    ("Constant", 11): _constant_11,
    ("TopK", 9): _topk_9,
    ("Hardmax", 12): _softmax_12,
    ("Softmax", 12): _softmax_12,
    ("LogSoftmax", 12): _softmax_12,
}
"""Rules by operator and the opset they lead to."""

_CHANGED = frozenset(
    {
        ("BatchNormalization", 8),
        ("GroupNormalization", 20),
        ("Resize", 10),
        ("Resize", 9),
        ("Upsample", 8),
        ("Cast", 18),
        ("AveragePool", 18),
        ("GRU", 6),
        ("LSTM", 6),
        ("RNN", 6),
        ("Squeeze", 12),
        ("Unsqueeze", 12),
        ("ReduceSum", 12),
        ("Attention", 23),
    }
)
"""Operators that mean something else, or have another form, in the opset named: the schemas alone
do not tell."""
