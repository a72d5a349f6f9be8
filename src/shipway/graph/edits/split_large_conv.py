"""Splits convolutions with kernels longer than a chip can take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.building import (
    Splice,
    attribute_of,
    constant_tensor,
    nodes_of_type,
)
from shipway.graph.edits.result import Edit, EditResult
from shipway.graph.edits.slices import TO_THE_END
from shipway.graph.edits.weights import changed_weight
from shipway.graph.naming import Names

__all__ = ["EDIT", "apply"]


def apply(model: ir.Model, *, limit: int = 255) -> EditResult:
    """Split each Conv with a kernel longer than a limit into a sum of shorter ones.

    Args:
        model: The model.
        limit: Longest kernel of one axis.

    Raises:
        UsageError: The limit is below 1.
    """
    if limit < 1:
        raise UsageError(f"A kernel of at most {limit} cannot be.", hint="E.g. --limit 255")
    names = Names(model)
    notes = []
    changed = 0
    for node in nodes_of_type(model, "Conv"):
        tensor = constant_tensor(node.inputs[1])
        if tensor is None or max(tensor.shape.numpy()[2:], default=0) <= limit:
            continue
        if attribute_of(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
            notes.append(f"'{node.name}' pads by itself (auto_pad), so it is left as it is")
            continue
        _split(Splice(model, names, node), node, tensor, limit)
        changed += 1
    return EditResult(EDIT.name, changed, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where along one axis of the kernel a piece lies."""

    start: int
    size: int
    whole: int


def _pieces(sizes: tuple[int, ...], limit: int) -> Iterator[tuple[_Piece, ...]]:
    """Yield the pieces of a kernel, one tuple with an entry for each axis."""
    if not sizes:
        yield ()
        return
    for start in range(0, sizes[0], limit):
        first = _Piece(start, min(limit, sizes[0] - start), sizes[0])
        for rest in _pieces(sizes[1:], limit):
            yield (first, *rest)


def _split(splice: Splice, node: ir.Node, tensor: ir.TensorProtocol, limit: int) -> None:
    sizes = tuple(tensor.shape.numpy()[2:])
    rank = len(sizes)
    source = node.inputs[0]
    if source is None:
        return
    pads = attribute_of(node, "pads") or [0] * 2 * rank
    dilations = attribute_of(node, "dilations") or [1] * rank
    if any(pads):
        source = splice.pad(source, [0, 0, *pads[:rank], 0, 0, *pads[rank:]])
    kept = {
        name: one
        for name, one in node.attributes.items()
        if name in {"strides", "dilations", "group"}
    }
    parts: list[ir.Value] = []
    for pieces in _pieces(sizes, limit):
        value = source
        for axis, (piece, dilation) in enumerate(zip(pieces, dilations, strict=True)):
            after = (piece.whole - piece.start - piece.size) * dilation
            if piece.start or after:
                end = -after if after else TO_THE_END
                value = splice.cut(value, axis + 2, piece.start * dilation, end)
        inputs = [value, splice.weight(_part(tensor, pieces), f"{tensor.name}_part")]
        if not parts:
            inputs += [one for one in node.inputs[2:] if one is not None]
        shape = [piece.size for piece in pieces]
        parts.append(splice.op("Conv", inputs, {**kept, "kernel_shape": shape}))
    splice.finish({node.outputs[0]: splice.op("Sum", parts)})


def _part(tensor: ir.TensorProtocol, pieces: tuple[_Piece, ...]) -> ir.TensorProtocol:
    cut = tuple(slice(piece.start, piece.start + piece.size) for piece in pieces)
    shape = (*tensor.shape.numpy()[:2], *(piece.size for piece in pieces))
    return changed_weight(
        tensor, lambda array: np.ascontiguousarray(array[(slice(None), slice(None), *cut)]), shape
    )


EDIT = Edit("split-large-conv", "reassociating", apply, knowledge="SplitLargeKernelConv")
