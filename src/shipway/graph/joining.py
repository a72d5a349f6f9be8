"""Joins two models: outputs of the first feed inputs of the second."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.locating import all_graphs
from shipway.graph.naming import Names, set_name
from shipway.graph.ordering import sort_graph

__all__ = ["join_graphs"]


def join_graphs(
    first: ir.Model, second: ir.Model, mapping: Mapping[str, str], *, prefix: str = "second/"
) -> ir.Model:
    """Append a model to another, in place.

    Args:
        first: The model that comes first; it grows.
        second: The model that comes second; it is used up.
        mapping: Output of the first to the input of the second it feeds.
        prefix: What names of the second that clash get in front.

    Returns:
        The first model. Outputs that feed the second are its outputs no more.

    Raises:
        UsageError: An output or input does not exist, is fed twice, or dtypes or shapes differ.
        ModelError: The opsets differ, or both have a function of one name with different bodies.
    """
    pairs = _pairs(first, second, mapping)
    _join_opsets(first, second)
    _join_functions(first, second)
    _rename_clashes(first, second, prefix, {target for _, target in pairs})
    graph, tail = first.graph, second.graph
    nodes, outputs = list(tail), list(tail.outputs)
    initializers = list(tail.initializers.values())
    inputs = [value for value in tail.inputs if value not in {target for _, target in pairs}]
    for source, target in pairs:
        target.replace_all_uses_with(source, replace_graph_outputs=True)
    outputs = list(tail.outputs)
    tail.inputs.clear()
    tail.outputs.clear()
    tail.initializers.clear()
    tail.remove(nodes)
    fed = {source for source, _ in pairs}
    kept = [value for value in graph.outputs if value not in fed]
    graph.inputs.extend(inputs)
    for value in initializers:
        graph.initializers[value.name or ""] = value
    graph.extend(nodes)
    graph.outputs.clear()
    graph.outputs.extend(dict.fromkeys((*kept, *outputs)))
    first.ir_version = max(first.ir_version, second.ir_version)
    for key, text in second.metadata_props.items():
        first.metadata_props.setdefault(key, text)
    sort_graph(first)
    return first


def _pairs(
    first: ir.Model, second: ir.Model, mapping: Mapping[str, str]
) -> list[tuple[ir.Value, ir.Value]]:
    if not mapping:
        raise UsageError("Joining needs at least one output of the first that feeds the second.")
    outputs = {value.name: value for value in first.graph.outputs}
    inputs = {value.name: value for value in second.graph.inputs}
    found = []
    for source, target in mapping.items():
        if source not in outputs:
            raise UsageError(f"The first model has no output '{source}': {_listed(outputs)}.")
        if target not in inputs:
            raise UsageError(f"The second model has no input '{target}': {_listed(inputs)}.")
        _check_fit(outputs[source], inputs.pop(target))
        found.append(
            (outputs[source], next(value for value in second.graph.inputs if value.name == target))
        )
    return found


def _listed(values: Mapping[str | None, ir.Value]) -> str:
    return ", ".join(str(name) for name in values) or "none"


def _check_fit(source: ir.Value, target: ir.Value) -> None:
    label = f"'{source.name}' cannot feed '{target.name}'"
    if None not in {source.dtype, target.dtype} and source.dtype is not target.dtype:
        raise UsageError(
            f"{label}: {source.type} is not {target.type}.",
            hint="change_dtype(second, name, dtype) puts a Cast inside.",
        )
    if source.shape is None or target.shape is None:
        return
    fits = len(source.shape) == len(target.shape) and all(
        one == other or not (isinstance(one, int) and isinstance(other, int))
        for one, other in zip(source.shape, target.shape, strict=True)
    )
    if not fits:
        raise UsageError(f"{label}: {source.shape} is not {target.shape}.")


def _join_opsets(first: ir.Model, second: ir.Model) -> None:
    for domain, version in second.opset_imports.items():
        have = first.opset_imports.setdefault(domain, version)
        if have != version:
            raise ModelError(
                f"The models use opsets {have} and {version} of '{domain or 'ai.onnx'}'.",
                hint=f"convert_opset(second, {have}), or the first to {version}.",
            )


def _join_functions(first: ir.Model, second: ir.Model) -> None:
    for key, function in second.functions.items():
        have = first.functions.get(key)
        if have is None:
            first.functions[key] = function
        elif ir.serde.serialize_function(have) != ir.serde.serialize_function(function):
            raise ModelError(
                f"Both models have a function {key[0]}::{key[1]}, with different bodies.",
                hint="inline_functions(second) first.",
            )


def _rename_clashes(first: ir.Model, second: ir.Model, prefix: str, fed: set[ir.Value]) -> None:
    names, own = Names(first), Names(second)
    inner = {function.graph for function in second.functions.values()}
    for graph in all_graphs(second):
        if graph in inner:
            continue
        for value in (*graph.inputs, *list(graph.initializers.values())):
            if value not in fed:
                _rename(value, names, own, prefix)
        for node in graph:
            if names.has_node(node.name):
                node.name = names.take_node(own.take_node(f"{prefix}{node.name}"))
            for value in node.outputs:
                _rename(value, names, own, prefix)


def _rename(value: ir.Value, names: Names, own: Names, prefix: str) -> None:
    if value.name and names.has_value(value.name):
        set_name(value, names.take_value(own.take_value(f"{prefix}{value.name}")))
