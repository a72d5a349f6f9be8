"""Lets Transposes meet and merge."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, nodes_of_type, only_user
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.naming import Names

__all__ = ["EDIT", "ELEMENTWISE", "apply"]

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Cast",
        "Ceil",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
        "ThresholdedRelu",
    }
)
"""Operators of one input that treat every element alike."""


def apply(model: ir.Model) -> EditResult:
    """Merge Transposes in a row, across operators that treat all elements alike; drop idle ones."""
    names = Names(model)
    changed = 0
    for second in nodes_of_type(model, "Transpose"):
        chain = _chain(second)
        if second.graph is None or chain is None:
            continue
        first = chain[0]
        perm = _merged(attribute_of(first, "perm"), attribute_of(second, "perm"))
        if perm is None or first is second:
            continue
        splice = Splice(model, names, second, [second])
        value = first.inputs[0]
        for node in chain[1:-1]:
            value = splice.op(node.op_type, [value], dict(node.attributes), like=[node])
            value.type = node.outputs[0].type
        if perm != sorted(perm):
            value = splice.op("Transpose", [value], {"perm": perm}, like=[first, second])
        if value is not None:
            splice.finish({second.outputs[0]: value})
            changed += 1
    changed += _drop_idle(model, names)
    return EditResult(EDIT.name, changed)


def _chain(second: ir.Node) -> list[ir.Node] | None:
    """Return the Transpose before a Transpose, what lies between, and it; None if there is none."""
    found = [second]
    while True:
        value = found[0].inputs[0]
        node = None if value is None else value.producer()
        if value is None or node is None or node.graph is not second.graph:
            return None
        if node.op_type == "Transpose" and not node.domain:
            return [node, *found]
        is_plain = node.op_type in ELEMENTWISE and not node.domain and len(node.inputs) == 1
        if not is_plain or only_user(value) is not found[0]:
            return None
        found.insert(0, node)


def _merged(first: list[int] | None, second: list[int] | None) -> list[int] | None:
    return None if not first or not second else [first[one] for one in second]


def _drop_idle(model: ir.Model, names: Names) -> int:
    count = 0
    for node in nodes_of_type(model, "Transpose"):
        perm = attribute_of(node, "perm")
        if perm and perm == sorted(perm) and node.inputs[0] is not None:
            Splice(model, names, node).finish({node.outputs[0]: node.inputs[0]})
            count += 1
    return count


EDIT = Edit("merge-transposes", "exact", apply)
