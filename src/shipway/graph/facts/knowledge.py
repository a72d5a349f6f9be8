"""Everything known of a model's values, gathered in one pass from its inputs and initializers.

Declared shapes of intermediate values and of outputs are never read: exporters write false ones.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.facts.dims import ANY_SIGN, Dim, Poly, atom
from shipway.graph.facts.fact import UNKNOWN, Fact
from shipway.graph.weights import SparseTensor

__all__ = ["CONTENT_DTYPES", "CONTENT_SIZE", "Knowledge", "content_of"]

CONTENT_DTYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
CONTENT_SIZE = 1024
"""Longest vector whose numbers are followed."""

_CACHED_BYTES = 1 << 16
_FIRST_IR_WITH_DEFAULTS = 4
_BOXED_SIZE = 8


def content_of(array: NDArray[Any]) -> tuple[Dim, ...]:
    """Return the numbers of an integer array as content."""
    return tuple(map(int, array.reshape(-1).tolist()))


def _is_as_good(known: Fact, fact: Fact) -> bool:
    """Whether a fact says no more than what is known: it may only name unknown sizes anew."""
    if known.dtype != fact.dtype or known.shape is None or fact.shape is None:
        return False
    if len(known.shape) != len(fact.shape) or (fact.content is not None and known.content is None):
        return False
    old, new = (*known.shape, *(known.content or ())), (*fact.shape, *(fact.content or ()))
    if fact.content is not None and len(old) != len(new):
        return False
    return all(one == two or _is_fresh(two) for one, two in zip(old, new, strict=False))


def _is_fresh(dim: Dim) -> bool:
    """Whether a size is a name that was just made up."""
    if isinstance(dim, int) or len(dim.terms) != 1:
        return False
    ((atoms, factor),) = dim.terms.items()
    return factor == 1 and len(atoms) == 1 and atoms[0][:1] in {"?", ANY_SIGN}


class Knowledge:
    """Facts by value, and the numbers of constants.

    Args:
        model: The model they are about.
        nonempty: Whether no dimension is ever 0.
    """

    def __init__(self, model: ir.Model, *, nonempty: bool = False) -> None:
        """Begin with nothing but the model's opsets."""
        self.nonempty = nonempty
        self.opsets = {
            "" if domain == "ai.onnx" else domain: version
            for domain, version in model.opset_imports.items()
        }
        self._inputs = frozenset(model.graph.inputs)
        self._inputs_are_constant = model.ir_version < _FIRST_IR_WITH_DEFAULTS
        self._facts: dict[ir.Value, Fact] = {}
        self._arrays: dict[ir.Value, NDArray[Any]] = {}
        self._named: dict[Hashable, Poly] = {}
        self._fresh = 0

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.opsets.get("", 1)

    def fresh(self, *, any_sign: bool = False) -> Poly:
        """Return a size nobody else has."""
        self._fresh += 1
        return atom(f"{ANY_SIGN if any_sign else '?'}{self._fresh}")

    def named(self, reason: Hashable) -> Poly:
        """Return the size that has this reason: always the same one."""
        found = self._named.get(reason)
        if found is None:
            found = self._named[reason] = self.fresh()
        return found

    def fact(self, value: ir.Value | None) -> Fact:
        """Return what is known of a value."""
        if value is None:
            return UNKNOWN
        found = self._facts.get(value)
        if found is None:
            found = self._facts[value] = self._first_fact(value)
        return found

    def learn(self, value: ir.Value, fact: Fact) -> bool:
        """Note what was found out of a value; say whether it is more than was known.

        Content that is missing is given names.
        """
        known = self._facts.get(value)
        if known is not None and (known == fact or _is_as_good(known, fact)):
            return False
        if fact.content is None and fact.shape is not None and fact.dtype is ir.DataType.INT64:
            fact = self._boxed(fact)
        self._facts[value] = fact
        return True

    def forget(self, value: ir.Value) -> None:
        """Forget a value that left the graph."""
        self._facts.pop(value, None)
        self._arrays.pop(value, None)

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is an initializer that no caller can override, with numbers to read."""
        if value is None or value.const_value is None or not value.is_initializer():
            return False
        if value.is_graph_input() and not self._inputs_are_constant:
            return False
        tensor = value.const_value
        return tensor.dtype is not ir.DataType.STRING and not isinstance(tensor, SparseTensor)

    def array(self, value: ir.Value | None) -> NDArray[Any] | None:
        """Return the numbers of a constant, or None for what is none."""
        if value is None or not self.is_constant(value):
            return None
        found = self._arrays.get(value)
        if found is None:
            tensor: Any = value.const_value
            found = tensor.numpy()
            if tensor.nbytes <= _CACHED_BYTES:
                self._arrays[value] = found
        return found

    def integers(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """Return the content of a value where every number of it is known."""
        content = self.fact(value).content
        if content is None:
            return None
        known = tuple(dim for dim in content if isinstance(dim, int))
        return known if len(known) == len(content) else None

    def _first_fact(self, value: ir.Value) -> Fact:
        if self.is_constant(value):
            return self._constant_fact(value)
        return self._input_fact(value) if value in self._inputs else UNKNOWN

    def _constant_fact(self, value: ir.Value) -> Fact:
        tensor: Any = value.const_value
        shape = tuple(map(int, tensor.shape.numpy()))
        content = None
        if tensor.dtype in CONTENT_DTYPES and len(shape) <= 1 and tensor.size <= CONTENT_SIZE:
            array = self.array(value)
            content = None if array is None else content_of(array)
        return Fact(tensor.dtype, shape, content)

    def _input_fact(self, value: ir.Value) -> Fact:
        if not isinstance(value.type, ir.TensorType):
            return UNKNOWN
        if value.shape is None:
            return Fact(value.dtype)
        return self._boxed(Fact(value.dtype, tuple(map(self._input_dim, value.shape))))

    def _input_dim(self, dim: int | ir.SymbolicDim) -> Dim:
        if isinstance(dim, int):
            return dim if dim >= 0 else self.fresh()
        return atom(dim.value) if isinstance(dim.value, str) and dim.value else self.fresh()

    def _boxed(self, fact: Fact) -> Fact:
        """Give names to the numbers of a small vector, so that they can be followed and compared."""
        shape = fact.shape
        if fact.dtype is not ir.DataType.INT64 or shape is None or len(shape) > 1:
            return fact
        size = shape[0] if shape else 1
        if not isinstance(size, int) or not 0 < size <= _BOXED_SIZE:
            return fact
        names = tuple(self.fresh(any_sign=True) for _ in range(size))
        return Fact(fact.dtype, shape, names)
