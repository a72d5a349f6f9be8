"""Compares two models: their graphs, functions, opsets and metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from shipway.graph.collector import collector_paused
from shipway.graph.diffing.graphs import compare_graphs
from shipway.graph.diffing.labels import Labeler
from shipway.graph.diffing.nodes import compare_notes, compare_texts, operator_name
from shipway.graph.diffing.results import Detail, GraphDifference, ModelDifference, write_both
from shipway.graph.leftovers import leftovers_of
from shipway.graph.locating import all_nodes
from shipway.graph.ordering import sort_graph

__all__ = ["diff_graphs"]

_ABOUT = ("ir_version", "producer_name", "producer_version", "domain", "model_version")
_FIRST_IR_WITH_DEFAULTS = 4


def diff_graphs(before: ir.Model, after: ir.Model) -> ModelDifference:
    """Compare two models.

    Nodes are aligned by structure first, so that new names, another order, and nodes put in between
    do not hide what stayed. Weights are compared piece by piece, and not at all where both models
    have them at one place of one file.

    Args:
        before: A model; its nodes are sorted.
        after: Another one; its nodes are sorted.

    Raises:
        ModelError: A graph has a cycle.

    Example:
        >>> import onnx_ir as ir
        >>> text = '''<ir_version: 10, opset_import: ["": 20]>
        ... agraph (float[n] x) => (float[n] y) { a = Relu(x)  y = Neg(a) }'''
        >>> before = ir.from_onnx_text(text)
        >>> after = ir.from_onnx_text(text.replace("a = Relu(x)", "b = Abs(x)  a = Relu(b)"))
        >>> diff_graphs(before, after).counts
        {'equal': 1, 'changed': 1, 'added': 1}
    """
    with collector_paused():
        sort_graph(before)
        sort_graph(after)
        return ModelDifference(
            tuple(_compare_about(before, after)),
            tuple(_compare_all_graphs(before, after)),
            _count_operators(before, after),
        )


def _compare_all_graphs(before: ir.Model, after: ir.Model) -> Iterator[GraphDifference]:
    labeler = Labeler(before.opset_imports, after.opset_imports)
    fixed = (
        before.ir_version < _FIRST_IR_WITH_DEFAULTS,
        after.ir_version < _FIRST_IR_WITH_DEFAULTS,
    )
    yield from compare_graphs(before.graph, after.graph, labeler, fixed_weights=fixed)
    for key, function in before.functions.items():
        other = after.functions.get(key)
        if other is not None:
            yield from compare_graphs(
                function.graph,
                other.graph,
                Labeler(function.opset_imports, other.opset_imports),
                where=f"function {_function_name(function)}",
                by_name=False,
            )


def _compare_about(before: ir.Model, after: ir.Model) -> Iterator[Detail]:
    yield from compare_texts("opset", _opsets(before), _opsets(after), "computation")
    for what in _ABOUT:
        one, other = getattr(before, what), getattr(after, what)
        if (one or "") != (other or ""):
            yield Detail(what.replace("_", " "), str(one or ""), str(other or ""), "annotation")
    yield from compare_notes(before, after)
    if leftovers_of(before) != leftovers_of(after):
        texts = write_both(lambda one: f"{len(leftovers_of(one)):,} bytes", before, after)
        yield Detail("training information or fields of a newer ONNX", *texts, "annotation")
    if (before.graph.name or "") != (after.graph.name or ""):
        yield Detail("graph name", before.graph.name or "", after.graph.name or "", "name")
    for detail in compare_notes(before.graph, after.graph):
        yield Detail(f"graph {detail.what}", detail.before, detail.after, detail.kind)
    for key in dict.fromkeys((*before.functions, *after.functions)):
        yield from _compare_functions(before.functions.get(key), after.functions.get(key))


def _opsets(model: ir.Model | ir.Function) -> dict[str, int]:
    return {domain or "ai.onnx": version for domain, version in model.opset_imports.items()}


def _compare_functions(before: ir.Function | None, after: ir.Function | None) -> Iterator[Detail]:
    if before is None or after is None:
        name = _function_name(before or after)
        yield Detail(
            f"function {name}", *write_both(lambda one: f"{len(one)} nodes", before, after)
        )
        return
    name = f"function {_function_name(before)}"
    yield from compare_texts(f"{name}, opset", _opsets(before), _opsets(after), "computation")
    parameters = _parameters(before), _parameters(after)
    yield from compare_texts(f"{name}, attribute", *parameters, "computation")
    for detail in compare_notes(before, after):
        yield Detail(f"{name}, {detail.what}", detail.before, detail.after, detail.kind)


def _parameters(function: ir.Function) -> dict[str, str]:
    return {key: repr(attribute.value) for key, attribute in function.attributes.items()}


def _function_name(function: ir.Function | None) -> str:
    if function is None:
        return ""
    overload = f":{function.overload}" if function.overload else ""
    return f"{function.domain}::{function.name}{overload}"


def _count_operators(before: ir.Model, after: ir.Model) -> dict[str, tuple[int, int]]:
    """Return the operators that are not as often in both, those that differ most first."""
    one, other = (
        Counter(operator_name(node) for node in all_nodes(model)) for model in (before, after)
    )
    names = [name for name in {**one, **other} if one[name] != other[name]]
    names.sort(key=lambda name: (-abs(one[name] - other[name]), name))
    return {name: (one[name], other[name]) for name in names}
