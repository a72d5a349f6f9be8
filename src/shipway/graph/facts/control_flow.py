"""What is known of the outputs of If, Loop and Scan, and of the inputs of their bodies.

A loop carries a shape unchanged if assuming so for its first iteration shows it for the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from shipway.graph.facts.fact import UNKNOWN, Fact
from shipway.graph.facts.knowledge import Knowledge

__all__ = ["CONTROL_FLOW", "infer_control_flow"]

InferGraph = Callable[[ir.Graph], None]


def infer_control_flow(
    node: ir.Node, knowledge: Knowledge, infer_graph: InferGraph
) -> Sequence[Fact]:
    """Return a fact for each output, having noted those of everything inside.

    Args:
        node: An If, a Loop or a Scan.
        knowledge: Where facts are kept.
        infer_graph: Notes the facts of a graph's nodes, in order.
    """
    return CONTROL_FLOW[node.op_type](node, knowledge, infer_graph)


def _if(node: ir.Node, knowledge: Knowledge, infer_graph: InferGraph) -> Sequence[Fact]:
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = knowledge.integers(node.inputs[0])
    if condition is not None and len(condition) == 1:
        branches = branches[:1] if condition[0] else branches[1:]
    for branch in branches:
        infer_graph(branch)
    if len(branches) == 1:
        return [knowledge.fact(value) for value in branches[0].outputs]
    pairs = zip(*(branch.outputs for branch in branches), strict=True)
    return [_common(*map(knowledge.fact, pair)) for pair in pairs]


def _common(first: Fact, second: Fact) -> Fact:
    """Return what two facts agree on."""
    dtype = first.dtype if first.dtype == second.dtype else None
    shape = first.shape if first.shape == second.shape else None
    content = first.content if first.content == second.content else None
    return Fact(dtype, shape, content if shape is not None else None)


def _loop(node: ir.Node, knowledge: Knowledge, infer_graph: InferGraph) -> Sequence[Fact]:
    body = node.attributes["body"].as_graph()
    first = [_varying(knowledge.fact(value)) for value in node.inputs[2:]]
    knowledge.learn(body.inputs[0], Fact(ir.DataType.INT64, ()))
    knowledge.learn(body.inputs[1], Fact(ir.DataType.BOOL, ()))
    carried = _settle(body, 2, 1, first, knowledge, infer_graph)
    rows = [knowledge.fact(value) for value in body.outputs[1 + len(carried) :]]
    return [*carried, *[_stacked(fact, knowledge) for fact in rows]]


def _scan(node: ir.Node, knowledge: Knowledge, infer_graph: InferGraph) -> Sequence[Fact]:
    body = node.attributes["body"].as_graph()
    if knowledge.opset < 9 or _has_other_axes(node):
        infer_graph(body)
        return [UNKNOWN] * len(node.outputs)
    count = len(node.inputs) - node.attributes["num_scan_inputs"].as_int()
    first = [_varying(knowledge.fact(value)) for value in node.inputs[:count]]
    for value, inner in zip(node.inputs[count:], body.inputs[count:], strict=True):
        knowledge.learn(inner, _row(knowledge.fact(value)))
    carried = _settle(body, 0, 0, first, knowledge, infer_graph)
    rows = [knowledge.fact(value) for value in body.outputs[count:]]
    return [*carried, *[_stacked(fact, knowledge) for fact in rows]]


def _has_other_axes(node: ir.Node) -> bool:
    names = ("scan_input_axes", "scan_output_axes")
    return any(any(node.attributes.get_ints(name, ())) for name in names)


def _varying(fact: Fact) -> Fact:
    """Return what may be assumed of a value in every iteration: its numbers change."""
    return Fact(fact.dtype, fact.shape)


def _row(fact: Fact) -> Fact:
    return Fact(fact.dtype, fact.shape[1:] if fact.shape else None)


def _stacked(fact: Fact, knowledge: Knowledge) -> Fact:
    return Fact(fact.dtype, None if fact.shape is None else (knowledge.fresh(), *fact.shape))


def _settle(
    body: ir.Graph,
    inputs_from: int,
    outputs_from: int,
    assumed: list[Fact],
    knowledge: Knowledge,
    infer_graph: InferGraph,
) -> list[Fact]:
    """Weaken what is assumed of the carried values until an iteration confirms it."""
    while True:
        for index, fact in enumerate(assumed):
            knowledge.learn(body.inputs[inputs_from + index], fact)
        infer_graph(body)
        outputs = body.outputs[outputs_from : outputs_from + len(assumed)]
        found = [
            _common(fact, knowledge.fact(value))
            for fact, value in zip(assumed, outputs, strict=True)
        ]
        kept = [_varying(fact) for fact in found]
        if kept == assumed:
            return assumed
        assumed = kept


CONTROL_FLOW: dict[str, Callable[[ir.Node, Knowledge, InferGraph], Sequence[Fact]]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
}
