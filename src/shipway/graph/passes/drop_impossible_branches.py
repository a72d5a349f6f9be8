"""Puts the branch of an If in its place where the other one cannot be what was meant.

PyTorch's tracer writes `x.squeeze(1)` as an If: squeezed where the size is 1, as it is elsewhere. A
model that goes on with an LSTM takes three dimensions and no others, so that one of the branches
ends every run with an error.
"""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.facts.inference import infer
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.facts.refusals import is_refused
from shipway.graph.locating import values_read
from shipway.graph.passes.inline_branches import inlined
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_BRANCHES = ("then_branch", "else_branch")


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose the nodes of the one branch with which a run can go on."""
    knowledge = view.knowledge
    if node.graph is not knowledge.body or not _ranks_differ(node, knowledge):
        return None
    possible = [name for name in _BRANCHES if not _ends_the_run(node, name, knowledge)]
    return inlined(node, possible[0], view) if len(possible) == 1 else None


def _ranks_differ(node: ir.Node, knowledge: Knowledge) -> bool:
    """Whether the branches return tensors of different numbers of dimensions, both known."""
    one, other = (node.attributes[name].as_graph().outputs for name in _BRANCHES)
    shapes = (
        (knowledge.fact(first).shape, knowledge.fact(second).shape)
        for first, second in zip(one, other, strict=True)
    )
    return any(
        first is not None and second is not None and len(first) != len(second)
        for first, second in shapes
    )


def _ends_the_run(node: ir.Node, branch: str, knowledge: Knowledge) -> bool:
    """Whether a later node, which outputs depend on, fails for certain after this branch."""
    trial = knowledge.fork()
    for value, inner in zip(node.outputs, node.attributes[branch].as_graph().outputs, strict=True):
        trial.learn(value, knowledge.fact(inner))
    needed = _needed(knowledge.body)
    changed, begun = set(node.outputs), False
    for one in knowledge.body:
        begun = begun or one is node
        if not begun or one is node or changed.isdisjoint(values_read(one)):
            continue
        if one in needed and is_refused(one, trial):
            return True
        for value, fact in zip(one.outputs, infer(one, trial), strict=True):
            trial.learn(value, fact)
        changed.update(one.outputs)
    return False


def _needed(body: ir.Graph) -> set[ir.Node]:
    """Return the nodes that an output of the body depends on: an engine may leave out others."""
    found: set[ir.Node] = set()
    pending = [value.producer() for value in body.outputs]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending += [value.producer() for value in values_read(node)]
    return found


RULE = Rule(
    "drop_impossible_branches",
    "exact",
    "Puts one branch of an If in its place where the other one ends the run: a later operator takes "
    "no tensor of that many dimensions.",
    ("If",),
    propose,
)
