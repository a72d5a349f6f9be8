"""Infers the facts of a graph, and computes the few numbers that sizes depend on.

The simplifier folds constants and then looks again; here the graph stays as it is, so the numbers
are kept beside it: the pads that the old tracer shuffles in two dimensions, sizes by a factor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.evaluation import EVALUATORS, Constants, evaluate
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.inference import infer
from shipway.graph.facts.knowledge import CONTENT_DTYPES, CONTENT_SIZE, Knowledge, content_of
from shipway.graph.standard import is_standard

__all__ = ["learn_graph"]


def learn_graph(graph: ir.Graph, knowledge: Knowledge) -> None:
    """Note the facts of every node of a graph, its nodes in order, and of the graphs inside."""
    numbers: dict[ir.Value, NDArray[Any]] = {}
    for node in graph:
        for value, fact in zip(node.outputs, infer(node, knowledge), strict=True):
            knowledge.learn(value, fact)
        if is_standard(node) and node.op_type in EVALUATORS:
            _compute(node, knowledge, numbers)


def _compute(node: ir.Node, knowledge: Knowledge, numbers: dict[ir.Value, NDArray[Any]]) -> None:
    """Compute a node whose inputs are known and small."""
    if not all(_is_small(knowledge.fact(value)) for value in node.outputs):
        return
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return
    arrays = [None if one is None else _numbers_of(one, knowledge, numbers) for one in node.inputs]
    pairs = zip(node.inputs, arrays, strict=True)
    if not arrays or any(array is None and value is not None for value, array in pairs):
        return
    attributes = {name: one.value for name, one in node.attributes.items()}
    count = len(node.outputs)
    found = evaluate(Constants(node.op_type, attributes, arrays, knowledge.opset, count))
    for value, array in zip(node.outputs, found or (), strict=False):
        dtype = knowledge.fact(value).dtype
        numbers[value] = array
        if dtype in CONTENT_DTYPES and array.ndim <= 1:
            knowledge.learn(value, Fact(dtype, array.shape, content_of(array)))


def _is_small(fact: Fact) -> bool:
    if fact.dtype is None or fact.shape is None or fact.dtype is ir.DataType.STRING:
        return False
    sizes = [dim for dim in fact.shape if isinstance(dim, int)]
    return len(sizes) == len(fact.shape) and 0 <= math.prod(sizes) <= CONTENT_SIZE


def _numbers_of(
    value: ir.Value, knowledge: Knowledge, numbers: dict[ir.Value, NDArray[Any]]
) -> NDArray[Any] | None:
    if value in numbers:
        return numbers[value]
    fact = knowledge.fact(value)
    if not _is_small(fact) or fact.dtype is None:
        return None
    if knowledge.is_constant(value):
        return knowledge.array(value)
    integers = knowledge.integers(value)
    if integers is None:
        return None
    sizes = [dim for dim in fact.shape or () if isinstance(dim, int)]
    try:
        return np.array(integers, fact.dtype.numpy()).reshape(sizes)
    except OverflowError:  # a product of sizes that no element of the type can hold
        return None
