"""Which nodes no engine can run, by the number of dimensions of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from shipway.graph.facts.fact import Shape
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.standard import is_standard

__all__ = ["is_refused"]

_MATRIX, _SEQUENCE = 2, 3


def is_refused(node: ir.Node, knowledge: Knowledge) -> bool:
    """Whether a node breaks its operator's rules for certain, so that a run ends there.

    Only what is known to be wrong counts: what is not known is taken for right.
    """
    check = _CHECKS.get(node.op_type)
    if check is None or not is_standard(node):
        return False
    shapes = [knowledge.fact(value).shape for value in node.inputs]
    return bool(shapes) and check(node, shapes, knowledge)


def _recurrent(_node: ir.Node, shapes: list[Shape | None], _knowledge: Knowledge) -> bool:
    return any(shape is not None and len(shape) != _SEQUENCE for shape in shapes[:3])


def _gemm(_node: ir.Node, shapes: list[Shape | None], _knowledge: Knowledge) -> bool:
    return any(shape is not None and len(shape) != _MATRIX for shape in shapes[:2])


def _conv(_node: ir.Node, shapes: list[Shape | None], _knowledge: Knowledge) -> bool:
    data, weight = shapes[0], shapes[1]
    return data is not None and weight is not None and len(data) != len(weight)


def _transpose(node: ir.Node, shapes: list[Shape | None], _knowledge: Knowledge) -> bool:
    if "perm" not in node.attributes or shapes[0] is None:
        return False
    return len(node.attributes["perm"].as_ints()) != len(shapes[0])


def _concat(_node: ir.Node, shapes: list[Shape | None], _knowledge: Knowledge) -> bool:
    return len({len(shape) for shape in shapes if shape is not None}) > 1


def _squeeze(node: ir.Node, shapes: list[Shape | None], knowledge: Knowledge) -> bool:
    given = node.attributes["axes"].as_ints() if "axes" in node.attributes else None
    axes = knowledge.integers(node.inputs[1]) if len(node.inputs) > 1 else given
    shape = shapes[0]
    if axes is None or shape is None:
        return False
    return any(
        not -len(shape) <= axis < len(shape) or (isinstance(shape[axis], int) and shape[axis] != 1)
        for axis in axes
    )


_CHECKS: Mapping[str, Callable[[ir.Node, list[Shape | None], Knowledge], bool]] = {
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Transpose": _transpose,
    "Concat": _concat,
    "Squeeze": _squeeze,
}
