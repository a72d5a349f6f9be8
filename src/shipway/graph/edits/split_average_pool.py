"""Splits average pools with windows larger than a chip can take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import onnx_ir as ir

from shipway.graph.building import Splice, attribute_of, nodes_of_type
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, limit: int = 255) -> EditResult:
    """Split each AveragePool with a window larger than a limit into two, one after the other.

    Args:
        model: The model.
        limit: Most elements in one window.
    """
    names = Names(model)
    known = infer_values(model)
    notes = []
    changed = 0
    for node in nodes_of_type(model, "AveragePool", "GlobalAveragePool"):
        source = node.inputs[0]
        sizes = _sizes(source, known)
        kernel = attribute_of(node, "kernel_shape") or sizes
        if source is None or kernel is None or math.prod(kernel) <= limit:
            continue
        inner = _factors(kernel, limit)
        if not _is_plain(node, kernel, sizes) or inner is None:
            notes.append(f"'{node.name}' is left as it is: {_why(node, kernel, sizes)}")
            continue
        outer = [size // part for size, part in zip(kernel, inner, strict=True)]
        splice = Splice(model, names, node)
        value = source
        for part in (inner, outer):
            value = splice.op("AveragePool", [value], {"kernel_shape": part, "strides": part})
        splice.finish({node.outputs[0]: value})
        changed += 1
    return EditResult(EDIT.name, changed, tuple(notes))


def _sizes(value: ir.Value | None, known: dict[str, Inferred]) -> list[int] | None:
    one = known.get((value.name if value is not None else "") or "")
    shape = () if one is None or one.shape is None else one.shape[2:]
    sizes = [size for size in shape if isinstance(size, int)]
    return sizes if sizes and len(sizes) == len(shape) else None


def _is_plain(node: ir.Node, kernel: Sequence[int], sizes: list[int] | None) -> bool:
    """Whether the windows lie side by side, or there is but one: then halves can be averaged."""
    if any(attribute_of(node, "pads") or ()) or attribute_of(node, "ceil_mode", 0):
        return False
    if attribute_of(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return False
    if any(one != 1 for one in attribute_of(node, "dilations") or ()):
        return False
    strides = attribute_of(node, "strides") or [1] * len(kernel)
    return list(strides) == list(kernel) or sizes == list(kernel)


def _factors(kernel: Sequence[int], limit: int) -> list[int] | None:
    """Return the inner window: a divisor of each size, so that both windows are small enough."""
    divisors = [[one for one in range(1, size + 1) if size % one == 0] for size in kernel]
    fitting = [
        list(inner)
        for inner in itertools.product(*divisors)
        if math.prod(inner) <= limit and math.prod(kernel) // math.prod(inner) <= limit
    ]
    return min(
        fitting, key=lambda inner: abs(math.prod(inner) ** 2 - math.prod(kernel)), default=None
    )


def _why(node: ir.Node, kernel: Sequence[int], sizes: list[int] | None) -> str:
    if _is_plain(node, kernel, sizes):
        return f"{'x'.join(map(str, kernel))} has no two factors that small"
    return "its windows overlap or reach beyond the image"


EDIT = Edit("split-average-pool", "reassociating", apply, knowledge="AvgPoolSplit")
