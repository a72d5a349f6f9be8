"""What is known of the outputs of a custom operator, from the shape rule of its definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from shipway.errors import TensorError
from shipway.graph.facts.dims import Dim, Poly, rename_atoms
from shipway.graph.facts.fact import Fact
from shipway.graph.facts.knowledge import Knowledge
from shipway.tensors import dtype_named, dtype_of

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp
    from shipway.ops.symbolic_shapes import Size

__all__ = ["infer_custom"]


def infer_custom(
    op: CustomOp, node: ir.Node, facts: Sequence[Fact], knowledge: Knowledge
) -> tuple[Fact, ...]:
    """Return dtypes by the letters of the definition, and the sizes that are certain.

    Args:
        op: The definition.
        node: The call; all its attributes are known.
        facts: Of its inputs.
        knowledge: Names sizes that depend on data.
    """
    from shipway.ops.onnx_nodes import CustomNode, attributes_of
    from shipway.ops.symbolic_shapes import infer_symbolic_shapes

    inputs = op.signature.inputs
    present = [*(value is not None for value in node.inputs), *[False] * len(inputs)]
    given = [fact if there else None for fact, there in zip(facts, present, strict=False)]
    given += [None] * (len(inputs) - len(given))
    dtypes = _output_dtypes(op, given)
    unknown = tuple(Fact(dtype) for dtype in dtypes)
    if len(given) > len(inputs) or any(_is_open(fact) for fact in given):
        return unknown
    try:
        names = [None if fact is None else _name(fact) for fact in given]
    except TensorError:
        return unknown
    shapes = [None if one is None else [_size(dim) for dim in one.shape or ()] for one in given]
    found = infer_symbolic_shapes(op, names, shapes, attributes_of(CustomNode(node, op)))
    if found is None or len(found) != len(dtypes):
        return unknown
    named: dict[str, str] = {}
    return tuple(
        Fact(dtype, tuple(_dim(size, named, knowledge) for size in shape))
        for dtype, shape in zip(dtypes, found, strict=True)
    )


def _is_open(fact: Fact | None) -> bool:
    return fact is not None and (fact.dtype is None or fact.shape is None)


def _output_dtypes(op: CustomOp, facts: Sequence[Fact | None]) -> list[ir.DataType | None]:
    """Return a dtype where the letter says one; I may be either of two."""
    from shipway.ops.schema import LETTERS

    pairs = zip(op.signature.inputs, facts, strict=False)
    generic = [fact.dtype for item, fact in pairs if item.letter == "T" and fact is not None]
    found: list[ir.DataType | None] = []
    for letter in op.signature.outputs:
        if letter in LETTERS:
            found.append(ir.DataType(dtype_named(LETTERS[letter]).onnx))
        else:
            found.append(generic[0] if letter == "T" and generic else None)
    return found


def _name(fact: Fact) -> str:
    return dtype_of(int(fact.dtype or 0)).name


def _size(dim: Dim) -> Size:
    return dim if isinstance(dim, int) else dim.terms


def _dim(size: Size | None, named: dict[str, str], knowledge: Knowledge) -> Dim:
    """Return a size in our own terms; one that depends on data is named once a call."""
    from shipway.ops.symbolic_shapes import NEW

    if size is None:
        return knowledge.fresh()
    if isinstance(size, int):
        return size
    for name in (name for names in size for name in names):
        if name.startswith(NEW) and name not in named:
            named[name] = repr(knowledge.fresh())
    return rename_atoms(Poly(size), named)
