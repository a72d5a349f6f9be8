"""Everything known of the values of a body, gathered in one pass from its inputs and constants.

Declared shapes of intermediate values and of outputs are never read: exporters write false ones.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.graph.attributes import Bindings
from shipway.graph.building import tensor_of_node
from shipway.graph.facts.dims import ANY_SIGN, Dim, Poly, atom
from shipway.graph.facts.fact import UNKNOWN, Fact
from shipway.graph.library import Library
from shipway.graph.weights import AbsentTensor, SparseTensor

__all__ = ["CONTENT_DTYPES", "CONTENT_SIZE", "Knowledge", "content_of", "fact_of_tensor"]

CONTENT_DTYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
CONTENT_SIZE = 1024
"""Longest vector whose numbers are followed."""

_CACHED_BYTES = 1 << 16
_FIRST_IR_WITH_DEFAULTS = 4
_BOXED_SIZE = 8


def content_of(array: NDArray[Any]) -> tuple[Dim, ...]:
    """Return the numbers of an integer array as content."""
    return tuple(map(int, array.reshape(-1).tolist()))


def fact_of_tensor(tensor: ir.TensorProtocol) -> Fact:
    """Return what is known of a constant: its numbers where it is a short vector of integers."""
    shape = tuple(map(int, tensor.shape.numpy()))
    content = None
    if tensor.dtype in CONTENT_DTYPES and len(shape) <= 1 and tensor.size <= CONTENT_SIZE:
        content = content_of(tensor.numpy())
    return Fact(tensor.dtype, shape, content)


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
    """Facts by value, and the numbers of constants, of one body: the main graph or a function's.

    Nothing is known of the inputs of a function but what its callers tell, and its constants are
    nodes.

    Args:
        body: The graph they are about, those inside it too.
        library: The functions and custom operators of its model.
        nonempty: Whether no dimension is ever 0.
        bindings: What is known of the attributes of a function's calls.
    """

    def __init__(
        self,
        body: ir.Graph,
        library: Library,
        *,
        nonempty: bool = False,
        bindings: Bindings | None = None,
    ) -> None:
        """Begin with nothing but the body's opsets."""
        self.body = body
        self.library = library
        self.nonempty = nonempty
        self.bindings: Bindings = {} if bindings is None else bindings
        self.is_function = body is not library.model.graph
        self.opsets = {
            "" if domain == "ai.onnx" else domain: version
            for domain, version in body.opset_imports.items()
        }
        self._inputs = frozenset(() if self.is_function else body.inputs)
        self._inputs_are_constant = (
            not self.is_function and library.model.ir_version < _FIRST_IR_WITH_DEFAULTS
        )
        self.calls: dict[ir.Node, tuple[object, tuple[Fact, ...]]] = {}
        self._facts: dict[ir.Value, Fact] = {}
        self._tensors: dict[ir.Value, ir.TensorProtocol | None] = {}
        self._arrays: dict[ir.Value, NDArray[Any]] = {}

    @classmethod
    def of_model(cls, model: ir.Model) -> Knowledge:
        """Return what is known of a model's main graph before anything is inferred."""
        return cls(model.graph, Library(model))

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.opsets.get("", 1)

    def fresh(self, *, any_sign: bool = False) -> Poly:
        """Return a size nobody else has."""
        return atom(f"{ANY_SIGN if any_sign else '?'}{self.library.next_number()}")

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

    def fork(self) -> Knowledge:
        """Return a copy, to try what would follow from something."""
        copy = Knowledge(
            self.body, self.library, nonempty=self.nonempty, bindings=dict(self.bindings)
        )
        copy._facts = dict(self._facts)
        return copy

    def forget(self, value: ir.Value) -> None:
        """Forget a value that left the graph."""
        self._facts.pop(value, None)
        self._arrays.pop(value, None)
        self._tensors.pop(value, None)

    def forget_all(self) -> None:
        """Forget every fact; constants stay."""
        self._facts.clear()
        self.calls.clear()

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value has the same numbers in every run, which can be read."""
        tensor = self.tensor(value)
        unread = isinstance(tensor, (AbsentTensor, SparseTensor))
        return not (tensor is None or unread or tensor.dtype is ir.DataType.STRING)

    def tensor(self, value: ir.Value | None) -> ir.TensorProtocol | None:
        """Return an initializer that no caller can override; in a function, a Constant node's too."""
        if value is None:
            return None
        if value.is_initializer():
            overridable = value.is_graph_input() and not self._inputs_are_constant
            return None if overridable else value.const_value
        if not self.is_function or value.producer() is None:
            return None
        if value not in self._tensors:
            self._tensors[value] = tensor_of_node(value.producer())
        return self._tensors[value]

    def array(self, value: ir.Value | None) -> NDArray[Any] | None:
        """Return the numbers of a constant, or None for what is none."""
        if value is None or not self.is_constant(value):
            return None
        found = self._arrays.get(value)
        if found is None:
            tensor: Any = self.tensor(value)
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
            tensor = self.tensor(value)
            return UNKNOWN if tensor is None else fact_of_tensor(tensor)
        return self._input_fact(value) if value in self._inputs else UNKNOWN

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
