"""Nodes, constants, inputs and outputs as scripts see them, each on an object of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.compat.attributes import VALUES, Attributes, Form, encode
from shipway.compat.watched import Watched
from shipway.graph.locating import subgraphs_of

if TYPE_CHECKING:
    from shipway.compat.wiring import Wiring

__all__ = ["Constant", "Element", "Operator", "Placeholder", "uses_outside"]


class Element:
    """What a graph is made of, under a name.

    Args:
        name: Its name.
    """

    op_type: str

    def __init__(self, name: str) -> None:
        """Belong to no graph yet."""
        self._name = name
        self.wiring: Wiring | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self.wiring is not None:
            self.wiring.forget_names()

    def flush(self) -> None:
        """Take over what a script changed in objects it was given."""

    def touch(self) -> None:
        """Note that what is declared behind it may be false from now on."""
        if self.wiring is not None:
            self.wiring.touched.add(self)


class Operator(Element):
    """A node. Its inputs and outputs are names; "" leaves an optional one out.

    Args:
        name: Its name.
        op_type: Its operator.
        inputs: Names it reads.
        outputs: Names it writes.
        attrs: Attributes as Python values.
        domain: Domain of the operator.
    """

    attribute_form: ClassVar[Form] = VALUES

    def __init__(
        self,
        name: str,
        op_type: str,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        attrs: Mapping[str, Any] | None = None,
        domain: str | None = "",
    ) -> None:
        """Make a node that belongs to no graph yet."""
        given = {key: value for key, value in (attrs or {}).items() if value is not None}
        attributes = [encode(key, value) for key, value in given.items()]
        node = ir.Node(domain or "", op_type, (), attributes, num_outputs=0, name=name)
        self._become(node, name, inputs or (), outputs or ())

    @classmethod
    def wrap(cls, node: ir.Node, name: str) -> Self:
        """Return the element of a node that is in the model."""
        self = cls.__new__(cls)
        inputs = ["" if one is None else one.name or "" for one in node.inputs]
        self._become(node, name, inputs, [one.name or "" for one in node.outputs])
        return self

    def _become(
        self, node: ir.Node, name: str, inputs: Iterable[str], outputs: Iterable[str]
    ) -> None:
        Element.__init__(self, name)
        self.ir = node
        self._inputs = Watched(inputs, self._inputs_changed)
        self._outputs = Watched(outputs, self._outputs_changed)
        self._attrs = Attributes(node, self.attribute_form, self.touch)
        self.uses_outside = list(uses_outside(node))
        self.names_outside = [value.name or "" for _, _, value in self.uses_outside]

    @property
    def op_type(self) -> str:
        """Its operator."""
        return self.ir.op_type

    @op_type.setter
    def op_type(self, op_type: str) -> None:
        self.ir.op_type = op_type
        self.touch()

    @property
    def inputs(self) -> list[str]:
        """Names it reads, in a list that may be changed."""
        return self._inputs

    @inputs.setter
    def inputs(self, names: Iterable[str]) -> None:
        self._inputs.replace(names)

    @property
    def outputs(self) -> list[str]:
        """Names it writes, in a list that may be changed."""
        return self._outputs

    @outputs.setter
    def outputs(self, names: Iterable[str]) -> None:
        self._outputs.replace(names)

    @property
    def attrs(self) -> Attributes:
        """Its attributes; changes reach the model."""
        return self._attrs

    @attrs.setter
    def attrs(self, attributes: Mapping[str, Any]) -> None:
        given = dict(attributes)
        self._attrs.clear()
        self._attrs.update(given)

    @property
    def domain(self) -> str:
        """Domain of its operator."""
        return self.ir.domain

    @domain.setter
    def domain(self, domain: str | None) -> None:
        self.ir.domain = domain or ""

    @property
    def doc_string(self) -> str:
        """Its comment."""
        return self.ir.doc_string or ""

    @doc_string.setter
    def doc_string(self, text: str) -> None:
        self.ir.doc_string = text

    def flush(self) -> None:
        """Take over attributes that were changed in place."""
        self._attrs.flush()

    def redirect(self, old: str, new: str) -> None:
        """Read another name wherever one was read, in sub-graphs too."""
        for index, name in enumerate(self._inputs):
            if name == old:
                self._inputs[index] = new
        self.names_outside = [new if name == old else name for name in self.names_outside]

    def __str__(self) -> str:
        return (
            f"Node({self.name}): \n\tinputs={list(self.inputs)}\n\toutputs={list(self.outputs)}"
            f"\n\tattrs = {self.attrs}\n"
        )

    __repr__ = __str__

    def _inputs_changed(self, before: list[str]) -> None:
        if self.wiring is not None:
            self.wiring.reads_changed(self, before, self._inputs)
        self.touch()

    def _outputs_changed(self, before: list[str]) -> None:
        if self.wiring is not None:
            self.wiring.writes_changed(self, before, self._outputs)
        self.touch()


class Constant(Element):
    """A constant of the graph: an initializer.

    Args:
        name: Its name.
        value: Its numbers.
    """

    op_type = "Initializer"

    def __init__(self, name: str, value: NDArray[Any] | None = None) -> None:
        """Make a constant that belongs to no graph yet."""
        super().__init__(name)
        self.ir = ir.Value(name=name)
        self._set(np.array([]) if value is None else value)
        self.overridable = False

    @classmethod
    def wrap(cls, value: ir.Value) -> Self:
        """Return the element of an initializer that is in the model."""
        self = cls.__new__(cls)
        Element.__init__(self, value.name or "")
        self.ir = value
        self.overridable = value.is_graph_input()
        return self

    @property
    def value(self) -> NDArray[Any]:
        """Its numbers. Those that lie in the model's file are read anew each time."""
        tensor = self.ir.const_value
        if tensor is None:
            return np.array([])
        return tensor.numpy()

    @value.setter
    def value(self, value: NDArray[Any]) -> None:
        self._set(value)
        self.touch()

    def _set(self, value: Any) -> None:
        tensor = ir.tensor(np.asarray(value), name=self.ir.name)
        self.ir.const_value = tensor
        self.ir.type = ir.TensorType(tensor.dtype)
        self.ir.shape = ir.Shape(tensor.shape.numpy())

    def __str__(self) -> str:
        tensor = self.ir.const_value
        about = "empty" if tensor is None else f"(shape={tensor.shape}, dtype={tensor.dtype})"
        return f"{self.op_type}({self.name}): {about}\n"

    __repr__ = __str__


class Placeholder(Element):
    """An input or output of the graph, or what is declared of a value between.

    Args:
        name: Its name.
        dtype: Type of its elements.
        shape: Its dimensions: numbers, names of dynamic ones, or -1 for a dynamic one without name.
    """

    op_type = "PlaceHolder"

    def __init__(
        self, name: str, dtype: Any = "int64", shape: Sequence[int | str] | None = None
    ) -> None:
        """Make a placeholder that belongs to no graph yet."""
        super().__init__(name)
        self.ir = ir.Value(name=name)
        self._dims = Watched[Any]((), self._dims_changed)
        self.dtype = dtype
        if shape is not None:
            self.shape = shape

    @classmethod
    def wrap(cls, value: ir.Value, name: str | None = None) -> Self:
        """Return the element of a value that is in the model."""
        self = cls.__new__(cls)
        Element.__init__(self, value.name or "" if name is None else name)
        self.ir = value
        self._dims = Watched[Any](_dims(value), self._dims_changed)
        return self

    @property
    def dtype(self) -> Any:
        """Type of its elements, of numpy."""
        kind = self.ir.dtype
        return np.dtype(object) if kind is None else kind.numpy()

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self.ir.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
        self.touch()

    @property
    def shape(self) -> list[int | str]:
        """Its dimensions, in a list that may be changed; empty where none are declared."""
        return self._dims

    @shape.setter
    def shape(self, shape: Sequence[int | str]) -> None:
        self._dims.replace("-1" if dim == -1 else dim for dim in shape)

    def __str__(self) -> str:
        return f"{self.op_type}({self.name}): (shape={list(self.shape)}, dtype={self.dtype})\n"

    __repr__ = __str__

    def _dims_changed(self, _before: list[Any]) -> None:
        self.ir.shape = ir.Shape([_dim(dim) for dim in self._dims])
        self.touch()


def _dims(value: ir.Value) -> Iterator[int | str]:
    for dim in value.shape if value.shape is not None else ():
        yield dim if isinstance(dim, int) else dim.value or "-1"


def _dim(dim: Any) -> int | str | None:
    """Return a dimension for the model: one without name is equal to no other."""
    if isinstance(dim, (int, np.integer)):
        return int(dim) if dim >= 0 else None
    return None if dim in {"-1", "", None} else str(dim)


def uses_outside(node: ir.Node) -> Iterator[tuple[ir.Node, int, ir.Value]]:
    """Yield where the sub-graphs of a node read values from around it."""
    inside: set[ir.Value] = set()
    nodes: list[ir.Node] = []
    pending = list(subgraphs_of(node))
    while pending:
        graph = pending.pop()
        inside.update(graph.inputs, graph.initializers.values())
        for one in graph:
            inside.update(one.outputs)
            nodes.append(one)
            pending += subgraphs_of(one)
    for one in nodes:
        for index, value in enumerate(one.inputs):
            if value is not None and value not in inside:
                yield one, index, value
