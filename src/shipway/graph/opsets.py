"""Converts a model to another opset, up or down, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.building import carry_metadata, drop_unused
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.locating import all_graphs, subgraphs_of
from shipway.graph.naming import Names
from shipway.graph.opset_steps import step_down
from shipway.graph.ordering import sort_graph
from shipway.graph.schemas import find_schema, form_problem
from shipway.graph.single_node import convert_single, place_of
from shipway.graph.standard import is_standard

__all__ = ["OpsetChange", "convert_opset"]

_OLDEST = 7
_IR_VERSIONS = {7: 3, 10: 5, 11: 6, 12: 7, 15: 8, 19: 9, 21: 10, 23: 11, 25: 12}


@dataclass(frozen=True, slots=True)
class OpsetChange:
    """What a conversion did.

    Attributes:
        before: The opset the model had.
        after: The opset it has.
        nodes: How many nodes had to change their form; the others mean the same in both.
    """

    before: int
    after: int
    nodes: int

    def to_json(self) -> dict[str, Any]:
        """Return the change as plain data."""
        return {"before": self.before, "after": self.after, "nodes": self.nodes}


def convert_opset(model: ir.Model, version: int) -> OpsetChange:
    """Convert a model to another opset of the default domain, in place.

    Only nodes whose operator is defined anew between the two are touched: each is converted alone,
    one version after another, so weights are never copied and all other nodes stay as they are.
    What came out is checked against ONNX's schemas, sub-graphs and functions too. On an error the
    model is left as it was.

    Args:
        model: The model.
        version: The opset to deliver, from 7 to the newest of the installed onnx.

    Raises:
        UsageError: There is no such opset.
        ModelError: An operator of the model cannot be expressed in that opset; its name is told.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= version <= newest:
        raise UsageError(f"Opset {version} cannot be delivered: from {_OLDEST} to {newest} can.")
    before = model.opset_imports.get("")
    if before is None:
        raise ModelError(
            "The model imports no opset of the default domain.",
            hint="Where it is written ai.onnx: shipway graph edit MODEL unify-domain --output OUT",
        )
    if not _OLDEST <= before <= newest:
        raise ModelError(f"Opset {before} of the model is not one of {_OLDEST} to {newest}.")
    _check_functions(model, before)
    known = infer_values(model)
    plans = [
        (node, _plan(node, before, version, known))
        for graph in all_graphs(model)
        for node in list(graph)
        if is_standard(node) and _is_redefined(node, before, version)
    ]
    names = Names(model)
    changed = [(node, plan) for node, plan in plans if plan is not None]
    for node, plan in changed:
        _carry_out(node, plan, names)
    for graph in (model.graph, *(one.graph for one in model.functions.values())):
        if "" in graph.opset_imports:
            graph.opset_imports[""] = version
    model.ir_version = max(model.ir_version, _ir_version(version))
    sort_graph(model)
    return OpsetChange(before, version, len(changed))


def _check_functions(model: ir.Model, version: int) -> None:
    for function in model.functions.values():
        have = function.opset_imports.get("", version)
        if have != version:
            raise ModelError(
                f"The function {function.domain}::{function.name} is written in opset {have}, the "
                f"model in {version}: the two cannot be converted together."
            )


def _is_redefined(node: ir.Node, before: int, version: int) -> bool:
    old = find_schema(node.op_type, "", before)
    new = find_schema(node.op_type, "", version)
    if old is None:
        raise ModelError(f"{_label(node)} is no operator of opset {before}.")
    return new is None or bool(new.since_version != old.since_version)


def _label(node: ir.Node) -> str:
    return f"'{node.name}' ({node.op_type})"


def _plan(
    node: ir.Node, before: int, version: int, known: Mapping[str, Inferred]
) -> ir.Graph | None:
    """Return what a node becomes, as a small graph; None where it stays as it is.

    Raises:
        ModelError: It cannot be expressed in that opset.
    """
    if any(True for _ in subgraphs_of(node)):
        _check_outer(node, before, version)
        return None
    try:
        if version > before:
            return convert_single(node, before, version, known)
        return step_down(node, before, version, known)
    except ModelError as error:
        raise ModelError(
            f"{_label(node)} cannot be expressed in opset {version}: {error}.", hint=error.hint
        ) from error


def _check_outer(node: ir.Node, before: int, version: int) -> None:
    """Check a node with sub-graphs: later versions only let it carry more types."""
    schema = find_schema(node.op_type, "", version)
    problem = "there is no such operator" if schema is None else form_problem(node, schema)
    if node.op_type == "Scan" and (before < 9) != (version < 9):
        problem = "opset 9 gave it another form"
    if problem:
        raise ModelError(f"{_label(node)} cannot be expressed in opset {version}: {problem}.")


def _carry_out(node: ir.Node, plan: ir.Graph, names: Names) -> None:
    """Put the nodes of a plan in the place of a node; its outputs keep their names."""
    graph = node.graph
    if graph is None:
        return
    given = dict(enumerate(node.inputs))
    inner = {one: value for one in plan.inputs if (value := given[place_of(one)]) is not None}
    results = {one: node.outputs[place_of(one)] for one in plan.outputs}
    for one in (*_constants(plan), *plan):
        new = _copy(one, inner, results, names)
        carry_metadata([node], new)
        graph.insert_before(node, new)
        if len(plan) == 1 and len(one.outputs) == len(node.outputs):
            new.name = node.name
    for formal, old in results.items():
        inner[formal].metadata_props.update(old.metadata_props)
        name, old.name = old.name, names.take_value(f"{old.name}_replaced")
        inner[formal].name = name
        old.replace_all_uses_with(inner[formal], replace_graph_outputs=True)
    drop_unused([node])


def _constants(plan: ir.Graph) -> list[ir.Node]:
    """Return nodes for constants a conversion has made: every graph and function can hold those."""
    made = []
    for value in plan.initializers.values():
        if value in set(plan.inputs) or value.const_value is None:
            continue
        tensor = ir.AttrTensor("value", value.const_value)
        node = ir.node("Constant", [], {"value": tensor}, name=f"{value.name}_constant")
        node.outputs[0].name = value.name
        value.replace_all_uses_with(node.outputs[0])
        made.append(node)
    return made


def _copy(
    node: ir.Node,
    inner: dict[ir.Value, ir.Value],
    results: Mapping[ir.Value, ir.Value],
    names: Names,
) -> ir.Node:
    outputs = []
    for value in node.outputs:
        old = results.get(value)
        name = "" if not value.name else names.take_value(value.name)
        made = ir.Value(name=name, type=value.type, shape=value.shape)
        if old is not None:
            made.type, made.shape = old.type, old.shape
        inner[value] = made
        outputs.append(made)
    return ir.node(
        node.op_type,
        [None if value is None else inner[value] for value in node.inputs],
        dict(node.attributes),
        outputs=outputs,
        name=names.take_node(node.name or node.op_type),
    )


def _ir_version(version: int) -> int:
    """Return the oldest IR version whose readers know an opset."""
    return max(ir_version for opset, ir_version in _IR_VERSIONS.items() if opset <= version)
