"""Dtypes and shapes of values that are worth being declared: inferred, never copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from shipway.graph.building import constant_tensor
from shipway.graph.facts.dims import ANY_SIGN, Dim
from shipway.graph.facts.fact import UNKNOWN, Fact
from shipway.graph.facts.inference import infer_graph
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.library import Library
from shipway.graph.locating import locate_value

__all__ = ["Declarations", "Size", "fix_sizes", "size_names"]

Size = int | str | None
"""A number, the name of a dynamic size, or None for one that nothing is known of."""

_INVENTED = re.compile(r"unk__\d+")
_NO_WORD = re.compile(r"\W+")


class Declarations:
    """What may be declared of the values of a model's main graph.

    Two inferences look at the whole model: Shipway's own, which follows symbolic sizes, and ONNX's
    for what that leaves open. Neither reads declared shapes of intermediate values or of outputs.

    Args:
        model: The model, its nodes sorted; unchanged.
        sizes: Numbers for dynamic dimensions of its inputs.
        given: Values whose dtype and shape are believed, whatever computes them.
    """

    def __init__(
        self,
        model: ir.Model,
        sizes: Mapping[str, int] | None = None,
        given: Iterable[ir.Value] = (),
    ) -> None:
        """Infer everything once."""
        scratch = model.clone()
        for value in given:
            _give(scratch, value)
        fix_sizes(scratch.graph.inputs, sizes or {})
        self._by_onnx = infer_values(scratch)
        self._facts = _infer_facts(scratch)
        self._names: dict[Dim, str] = {}
        self._taken = set(size_names(scratch.graph.inputs))

    def of(self, value: ir.Value, *, name_all: bool = False) -> Inferred:
        """Return dtype and shape of a value.

        Args:
            value: A value of the main graph.
            name_all: Name every size that is not known; equal ones get one name.
        """
        name = value.name or ""
        fact, other = self._facts.get(name, UNKNOWN), self._by_onnx.get(name)
        dtype = fact.dtype or (None if other is None else other.dtype)
        sizes = _known_sizes(fact.shape, None if other is None else other.shape)
        if sizes is None or not name_all:
            return Inferred(dtype, sizes)
        own = fact.shape if fact.shape is not None and len(fact.shape) == len(sizes) else None
        dims: tuple[Dim | None, ...] = own or (None,) * len(sizes)
        named = (
            self.name_size(name, axis, dims[axis]) if size is None else size
            for axis, size in enumerate(sizes)
        )
        return Inferred(dtype, tuple(named))

    def name_size(self, value: str, axis: int, dim: Dim | None = None) -> str:
        """Return a name for a size that is not known, the same for the same size."""
        if dim is not None and dim in self._names:
            return self._names[dim]
        stem = _NO_WORD.sub("_", value).strip("_")
        name = f"{stem}_dim{axis}" if stem and not stem[0].isdigit() else f"v{stem}_dim{axis}"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        if dim is not None:
            self._names[dim] = name
        return name


def size_names(values: Iterable[ir.Value]) -> list[str]:
    """Return the names of the dynamic dimensions of values, in order."""
    names = (
        dim.value
        for one in values
        for dim in one.shape or ()
        if isinstance(dim, ir.SymbolicDim) and dim.value
    )
    return list(dict.fromkeys(names))


def fix_sizes(values: Iterable[ir.Value], sizes: Mapping[str, int]) -> None:
    """Give dimensions of values the numbers that belong to their names."""
    for value in values:
        if value.shape is not None and sizes:
            value.shape = ir.Shape(
                dim if isinstance(dim, int) else sizes.get(dim.value or "", dim.value)
                for dim in value.shape
            )


def _give(scratch: ir.Model, value: ir.Value) -> None:
    """Make a computed value an input of a model."""
    found = locate_value(scratch, value.name or "")
    given = ir.Value(name=value.name, type=value.type, shape=value.shape)
    found.replace_all_uses_with(given, replace_graph_outputs=True)
    found.name = f"{value.name} before"
    scratch.graph.inputs.append(given)


def _infer_facts(scratch: ir.Model) -> dict[str, Fact]:
    """Return the facts of the main graph's values by name; functions are looked into."""
    for graph in list(scratch.graphs()):
        _lift_constants(graph)
    knowledge = Knowledge(scratch.graph, Library(scratch))
    infer_graph(scratch.graph, knowledge)
    graph = scratch.graph
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in graph for value in node.outputs]
    return {value.name: knowledge.fact(value) for value in values if value.name}


def _lift_constants(graph: ir.Graph) -> None:
    """Make initializers of Constant nodes: only of those are the numbers followed."""
    for node in list(graph):
        value = node.outputs[0] if node.outputs else None
        tensor = None if value is None or not value.name else constant_tensor(value)
        if value is None or tensor is None or value.name in graph.initializers:
            continue
        shape = ir.Shape(tensor.shape.numpy())
        lifted = ir.Value(
            name=value.name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor
        )
        value.replace_all_uses_with(lifted, replace_graph_outputs=True)
        graph.remove(node)
        graph.initializers[lifted.name or ""] = lifted


def _known_sizes(
    own: tuple[Dim, ...] | None, other: tuple[Size, ...] | None
) -> tuple[Size, ...] | None:
    """Combine both inferences; where they differ in rank, Shipway's own counts."""
    theirs = None if other is None else tuple(_without_invented(size) for size in other)
    if own is None:
        return theirs
    ours = tuple(map(_size, own))
    if theirs is None or len(theirs) != len(ours):
        return ours
    return tuple(
        size if size is not None else their for size, their in zip(ours, theirs, strict=True)
    )


def _without_invented(size: Size) -> Size:
    return None if isinstance(size, str) and _INVENTED.fullmatch(size) else size


def _size(dim: Dim) -> Size:
    """Return a size in terms of the inputs' names; None where it has others in it."""
    if isinstance(dim, int):
        return dim
    atoms = {name for monomial in dim.terms for name in monomial}
    return None if any(name[0] in {"?", ANY_SIGN} for name in atoms) else repr(dim)
