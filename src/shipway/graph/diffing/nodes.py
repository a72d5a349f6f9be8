"""Compares two nodes that do the same work, and writes nodes on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from shipway.graph.diffing.labels import Labeler, freeze_attribute
from shipway.graph.diffing.numbers import measure_gap
from shipway.graph.diffing.results import Detail, Kind, Status, write_both
from shipway.graph.leftovers import QUANTIZATION
from shipway.graph.signing import describe_tensor, dtype_name
from shipway.graph.standard import STANDARD_DOMAINS

__all__ = [
    "GRAPH_KINDS",
    "compare_nodes",
    "compare_notes",
    "compare_texts",
    "operator_name",
    "status_of",
    "write_node",
]

GRAPH_KINDS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})
_LONGEST_TEXT = 60
_TENSORS = ir.AttributeType.TENSOR


def compare_nodes(
    before: ir.Node, after: ir.Node, labeler: Labeler, partners: Mapping[ir.Value, ir.Value]
) -> tuple[Detail, ...]:
    """Return what differs between two nodes; their sub-graphs are not looked into.

    Args:
        before: The node before.
        after: The node after.
        labeler: Knows the defaults of attributes.
        partners: The value after for each value before that has one.
    """
    return (
        *_compare_operators(before, after),
        *_compare_attributes(labeler.attributes(before, 0), labeler.attributes(after, 1)),
        *_compare_inputs(before, after, partners),
        *_compare_outputs(before, after),
        *_compare_names(before, after),
        *compare_notes(before, after),
    )


def status_of(details: Sequence[Detail]) -> Status | None:
    """Return what the details of a pair of nodes make of it; None for equal ones."""
    kinds = {one.kind for one in details}
    if "computation" in kinds:
        return "changed"
    if "annotation" in kinds:
        return "annotated"
    return "renamed" if kinds else None


def operator_name(node: ir.Node) -> str:
    """Write an operator with its domain, where it is not ONNX's own."""
    prefix = "" if node.domain in STANDARD_DOMAINS else f"{node.domain}::"
    return f"{prefix}{node.op_type}" + (f":{node.overload}" if node.overload else "")


def write_node(node: ir.Node) -> str:
    """Write a node on one line."""
    outputs = ", ".join(value.name or "_" for value in node.outputs)
    inputs = ", ".join("_" if value is None else value.name or "_" for value in node.inputs)
    attributes = ", ".join(
        f"{name}={write_attribute(one)}" for name, one in sorted(node.attributes.items())
    )
    text = f"{outputs} = {operator_name(node)}({inputs})"
    return text + (f" {{{attributes}}}" if attributes else "")


def write_attribute(attribute: ir.Attr) -> str:
    """Write an attribute in a few words."""
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    value: Any = attribute.value
    if attribute.type is _TENSORS:
        text = describe_tensor(value)
        if value.size == 1 and value.dtype is not ir.DataType.STRING:
            text += f" {value.numpy().reshape(-1)[0]}"
    elif attribute.type in GRAPH_KINDS:
        text = "graph" if attribute.type is ir.AttributeType.GRAPH else f"{len(value)} graphs"
    elif isinstance(value, (list, tuple)):
        text = f"[{','.join(f'{one:g}' if isinstance(one, float) else str(one) for one in value)}]"
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def _compare_operators(before: ir.Node, after: ir.Node) -> Iterator[Detail]:
    if operator_name(before) != operator_name(after):
        yield Detail("operator", operator_name(before), operator_name(after))


def _compare_attributes(
    before: Mapping[str, ir.Attr], after: Mapping[str, ir.Attr]
) -> Iterator[Detail]:
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            yield Detail(name, *write_both(write_attribute, one, other))
        elif one.type is other.type is _TENSORS and not one.is_ref() and not other.is_ref():
            yield from _compare_tensors(name, one.as_tensor(), other.as_tensor())
        elif one.type in GRAPH_KINDS and one.type is other.type and not one.is_ref():
            continue
        elif freeze_attribute(one) != freeze_attribute(other):
            texts = write_both(write_attribute, one, other)
            # What is too long to be shown, or rounded, must not look equal.
            note = "they differ further on" if texts[0] == texts[1] else ""
            yield Detail(name, *texts, note=note)


def _compare_tensors(
    name: str, before: ir.TensorProtocol, after: ir.TensorProtocol
) -> Iterator[Detail]:
    texts = describe_tensor(before), describe_tensor(after)
    if texts[0] != texts[1]:
        yield Detail(name, *texts)
    elif (gap := measure_gap(before, after)) is not None:
        yield Detail(name, *texts, gap=gap)


def _compare_inputs(
    before: ir.Node, after: ir.Node, partners: Mapping[ir.Value, ir.Value]
) -> Iterator[Detail]:
    for slot in range(max(len(before.inputs), len(after.inputs))):
        one = before.inputs[slot] if slot < len(before.inputs) else None
        other = after.inputs[slot] if slot < len(after.inputs) else None
        if one is None and other is None:
            continue
        if one is None or other is None or partners.get(one) is not other:
            names = write_both(_value_name, one, other)
            note = "of another node" if names[0] == names[1] else ""
            yield Detail(f"input {slot}", *names, note=note)


def _value_name(value: ir.Value) -> str:
    return value.name or ""


def _compare_outputs(before: ir.Node, after: ir.Node) -> Iterator[Detail]:
    for index in range(max(len(before.outputs), len(after.outputs))):
        one = before.outputs[index] if index < len(before.outputs) else None
        other = after.outputs[index] if index < len(after.outputs) else None
        names = write_both(_value_name, one, other)
        if bool(names[0]) != bool(names[1]):
            yield Detail(f"output {index}", names[0] or None, names[1] or None)
        elif one is not None and other is not None:
            yield from _compare_declared(f"output {index}", one, other)


def _compare_declared(what: str, before: ir.Value, after: ir.Value) -> Iterator[Detail]:
    if before.is_graph_output() and after.is_graph_output():
        return  # told with the graph's outputs
    if None not in {before.dtype, after.dtype} and before.dtype is not after.dtype:
        yield Detail(f"{what} dtype", *write_both(dtype_name, before.dtype, after.dtype))
    if before.shape is not None and after.shape is not None and before.shape != after.shape:
        yield Detail(f"{what} shape", str(before.shape), str(after.shape), "annotation")
    for note in compare_notes(before, after):
        yield Detail(f"{what}, {note.what}", note.before, note.after, note.kind)
    scales = [one.meta.get(QUANTIZATION) or {} for one in (before, after)]
    yield from compare_texts(f"{what}, quantization", scales[0], scales[1], "annotation")


def _compare_names(before: ir.Node, after: ir.Node) -> Iterator[Detail]:
    if (before.name or "") != (after.name or ""):
        yield Detail("name", before.name or "", after.name or "", "name")
    for index, (one, other) in enumerate(zip(before.outputs, after.outputs, strict=False)):
        is_internal = not (one.is_graph_output() and other.is_graph_output())
        if is_internal and one.name and other.name and one.name != other.name:
            yield Detail(f"output {index} name", one.name, other.name, "name")


def compare_notes(before: Any, after: Any) -> Iterator[Detail]:
    """Return what differs between the metadata and doc strings of nodes, values or models."""
    if (before.doc_string or "") != (after.doc_string or ""):
        yield Detail("doc string", before.doc_string, after.doc_string, "annotation")
    yield from compare_texts("metadata", before.metadata_props, after.metadata_props, "annotation")


def compare_texts(
    what: str, before: Mapping[str, Any], after: Mapping[str, Any], kind: Kind
) -> Iterator[Detail]:
    """Return what differs between two tables of texts or numbers."""
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        if one != other:
            yield Detail(f"{what} {key}", *write_both(str, one, other), kind)
