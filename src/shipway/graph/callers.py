"""What all calls of a function agree on."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from shipway.graph.attributes import Bindings, freeze_attributes
from shipway.graph.facts.calls import bind_attributes
from shipway.graph.facts.dims import ANY_SIGN, Dim, atom, is_nonnegative
from shipway.graph.facts.fact import UNKNOWN, Fact
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.library import Library

__all__ = ["Callers"]


class Callers:
    """The calls of each function in bodies that have been simplified.

    Args:
        library: The functions.
    """

    def __init__(self, library: Library) -> None:
        """Begin without a call."""
        self._library = library
        self._facts: dict[ir.Function, list[Sequence[Fact]]] = {}
        self._bindings: dict[ir.Function, list[Bindings]] = {}

    def note(self, body: ir.Graph, knowledge: Knowledge) -> None:
        """Note every call in a body, with what is known there of its inputs and attributes."""
        for node in body.all_nodes():
            function = self._library.function_of(node)
            if function is None:
                continue
            count = len(function.inputs)
            facts = [knowledge.fact(value) for value in node.inputs]
            bindings = bind_attributes(function, node.attributes, knowledge.bindings)
            self._facts.setdefault(function, []).append((*facts, *[UNKNOWN] * count)[:count])
            self._bindings.setdefault(function, []).append(bindings)

    def agreement(self, function: ir.Function) -> tuple[list[Fact], Bindings]:
        """Return what holds of a function's inputs and attributes in every call of it.

        Nothing is known of a function that nobody calls.
        """
        calls = self._facts.get(function)
        if not calls:
            return [UNKNOWN] * len(function.inputs), {}
        sizes = _Sizes()
        facts = [sizes.common(one) for one in zip(*calls, strict=True)]
        return facts, _common_bindings(self._bindings[function])


def _common_bindings(calls: Sequence[Bindings]) -> Bindings:
    frozen = [
        {name: freeze_attributes({name: value}) for name, value in one.items()} for one in calls
    ]
    return {
        name: value
        for name, value in calls[0].items()
        if all(one.get(name) == frozen[0][name] for one in frozen)
    }


class _Sizes:
    """Names for sizes that differ from call to call: one for all that are equal in each call."""

    def __init__(self) -> None:
        self._names: dict[tuple[Dim, ...], Dim] = {}

    def common(self, facts: Sequence[Fact]) -> Fact:
        """Return what holds of an input of which this is known in each call."""
        dtypes = {fact.dtype for fact in facts}
        shape = self._each([fact.shape for fact in facts])
        content = self._each([fact.content for fact in facts])
        return Fact(
            dtypes.pop() if len(dtypes) == 1 else None, shape, None if shape is None else content
        )

    def _each(self, parts: Sequence[tuple[Dim, ...] | None]) -> tuple[Dim, ...] | None:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or len({len(part) for part in known}) > 1:
            return None
        return tuple(map(self._name, zip(*known, strict=True)))

    def _name(self, dims: tuple[Dim, ...]) -> Dim:
        if isinstance(dims[0], int) and all(dim == dims[0] for dim in dims):
            return dims[0]
        if dims not in self._names:
            sign = "" if all(map(is_nonnegative, dims)) else ANY_SIGN
            self._names[dims] = atom(f"{sign}in{len(self._names)}")
        return self._names[dims]
