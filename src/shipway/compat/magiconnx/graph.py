"""OnnxGraph with the calls MagicONNX has, on a model of Shipway's.

Its first branch opens a file with `OnnxGraph(path)`, its later one with `OnnxGraph.parse(path)`;
they differ in what inputs, attributes and constants look like.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.compat import surgery, whole
from shipway.compat.elements import Operator
from shipway.compat.faults import NodeMissing, Unsupported, UnsupportedAttribute
from shipway.compat.magiconnx.node import (
    FirstNode,
    FirstPlaceHolder,
    Initializer,
    Node,
    PlaceHolder,
)
from shipway.compat.settling import settle, sort_nodes
from shipway.compat.wiring import Kinds, Wiring
from shipway.errors import UsageError

__all__ = ["BaseGraph", "OnnxGraph", "ParsedGraph"]

_DEFAULT_MAPS = {0: 0}


class BaseGraph:
    """What scripts name in annotations and isinstance."""


class OnnxGraph(BaseGraph):
    """A graph whose nodes are wired by name.

    Args:
        model: Path of the model.
        rewrite_node: Taken and not needed: nodes without a name get one in any case.
    """

    _kinds: ClassVar[Kinds] = Kinds(FirstNode, Initializer, FirstPlaceHolder)
    _lifts_constants: ClassVar[bool] = False

    def __init__(self, model: str | Path, rewrite_node: bool = True) -> None:  # noqa: ARG002 -- MagicONNX's form
        """Read a model."""
        self._take(whole.read_model(model))

    @classmethod
    def parse(cls, path_or_bytes: Any) -> ParsedGraph:
        """Read a model from a path, a ModelProto or a GraphProto.

        Raises:
            ModelError: The file is absent or broken.
        """
        return ParsedGraph._of(whole.read_model(path_or_bytes))  # noqa: SLF001 -- of this module

    @classmethod
    def _of(cls, model: ir.Model) -> Self:
        self = cls.__new__(cls)
        self._take(model)
        return self

    def _take(self, model: ir.Model) -> None:
        self._wiring = Wiring(model, self._kinds, lift_constants=self._lifts_constants)
        self._lent: list[tuple[Any, int]] = []

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self._of(settle(self._wiring, strict=False).clone())

    # ---- what is there

    @property
    def inputs(self) -> Any:
        """Names of its inputs."""
        return [one.name for one in self._wiring.inputs]

    @property
    def outputs(self) -> Any:
        """Names of its outputs."""
        return [one.name for one in self._wiring.outputs]

    @property
    def nodes(self) -> list[Node]:
        """Its nodes, in a list that may be changed."""
        return self._wiring.nodes

    @property
    def inits(self) -> list[Initializer]:
        """Its constants, in a list that may be changed."""
        return self._wiring.initializers

    @property
    def model(self) -> Any:
        """The model as a ModelProto, to look at: changes to it are refused when the graph is saved."""
        proto = whole.to_proto(self._wiring)
        self._lent.append((proto, _digest(proto)))
        return proto

    _model = model

    @property
    def graph(self) -> Any:
        """The graph as a GraphProto, to look at."""
        return self.model.graph

    def _check_lent(self) -> None:
        for proto, digest in self._lent:
            if _digest(proto) != digest:
                raise Unsupported(
                    "way to take over changes to graph.graph",
                    hint="Change nodes and constants as graph[name] gives them, or edit with onnx.",
                )
        self._lent.clear()

    def __getitem__(self, key: str) -> Any:
        found = self._wiring.find(key) or self._wiring.writer(key)
        if found is None:
            raise NodeMissing(key)
        return found

    def __setitem__(self, key: str, value: Node) -> None:
        if not isinstance(value, Operator):
            raise UsageError(f"Only nodes can replace a node, and '{value.name}' is none.")
        surgery.replace(self._wiring, key, value)

    def __str__(self) -> str:
        return "\n".join(str(one) for one in self._wiring.elements())

    def get_nodes(self, op_type: str) -> list[Any]:
        """Return all nodes of an operator; "Initializer" and "Placeholder" are operators too."""
        return [one for one in self._wiring.elements() if one.op_type == op_type]

    def get_next_nodes(self, op_name: str) -> list[Any]:
        """Return the nodes that read any output of a node, or an input or constant."""
        place = self[op_name]
        names = place.outputs if isinstance(place, Operator) else [place.name]
        found = [one for name in names for one in self._wiring.seen_readers(name)]
        return list(dict.fromkeys(found))

    # ---- edits

    def add_placeholder(
        self,
        name: str,
        dtype: Any,
        shape: Sequence[int | str],
        is_input: bool = True,
    ) -> PlaceHolder:
        """Add an input, or an output."""
        self._wiring.check_free(name)
        placeholder = self._wiring.kinds.placeholder(name, np.dtype(dtype), shape)
        (self._wiring.inputs if is_input else self._wiring.outputs).append(placeholder)
        return placeholder  # type: ignore[return-value] # the kinds of this class are its own

    def add_initializer(self, name: str, value: NDArray[Any]) -> Initializer:
        """Add a constant."""
        self._wiring.check_free(name)
        constant = Initializer(name, value)
        self._wiring.initializers.append(constant)
        return constant

    def add_node(
        self,
        name: str,
        op_type: str,
        attrs: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = ("Null",),
        outputs: Sequence[str] = ("Null",),
        domain: str | None = None,
    ) -> Node:
        """Add a node; `save` puts it where it belongs."""
        node = self._wiring.kinds.operator(name, op_type, inputs, outputs, attrs, domain)
        self._wiring.add_node(node)
        return node  # type: ignore[return-value] # the kinds of this class are its own

    def insert_node(self, anchor: str, dst: Node, index: int = 0, mode: str = "after") -> Self:
        """Insert a node of one input and one output before or after another."""
        names = dst.inputs if mode == "after" else dst.outputs
        if len(names) > 1:
            side = "input" if mode == "after" else "output"
            raise _NotSingle(f"Only support single {side} Node, maybe you can use graph.connection")
        surgery.insert(self._wiring, anchor, dst, index, mode)
        return self

    def del_node(
        self,
        name: str,
        maps: Mapping[int, int] | None = None,
        auto_connection: bool = True,
    ) -> None:
        """Remove a node, constant, input or output.

        Args:
            name: Its name.
            maps: Number of an input of the node to that of an input of each node behind it. If not
                given, whatever read its first output reads its first input.
            auto_connection: Whether to connect what is left.
        """
        place = self[name]
        if not auto_connection or not isinstance(place, Operator):
            surgery.remove(self._wiring, place.name, {})
        elif maps is None or dict(maps) == _DEFAULT_MAPS:
            surgery.remove(self._wiring, place.name, _DEFAULT_MAPS)
        else:
            behind = [one for output in place.outputs for one in self._wiring.readers(output)]
            surgery.remove(self._wiring, place.name, {})
            for reader in dict.fromkeys(behind):
                for source, target in maps.items():
                    reader.inputs[target] = place.inputs[source]

    def connection(
        self,
        previous: str,
        out_idx: int | Sequence[int],
        behind: str,
        in_idx: int | Sequence[int],
    ) -> None:
        """Let inputs of one node read outputs of another."""
        sources, targets = _numbers(out_idx), _numbers(in_idx)
        count = max(len(sources), len(targets))
        if not {len(sources), len(targets)} <= {1, count}:
            raise _NotSingle(f"It is fuzzy to connect between {sources} and {targets}")
        self._wiring.see_all()
        first, second = self[previous], self[behind]
        names = first.outputs if isinstance(first, Operator) else [first.name]
        pairs = zip(_spread(sources, count), _spread(targets, count), strict=True)
        for source, target in pairs:
            second.inputs[target] = names[source]

    def keep_default_domain(self) -> None:
        """Move custom nodes to the default domain, which keeps its opset."""
        self._check_lent()
        whole.keep_default_domain(self._wiring)

    # ---- the whole

    def save(self, path: str | Path) -> None:
        """Save the model, sorted; one that is too large for one file gets a second one."""
        self._check_lent()
        whole.save_model(self._wiring, path)

    def run(self, data: NDArray[Any] | Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the model in ONNX Runtime, one array for each input, and return its outputs."""
        self._check_lent()
        return whole.run_model(self._wiring, data)

    def simplify(self, inplace: bool, **kwargs: Any) -> Any:
        """Simplify the graph and return it, or return a simplified ModelProto."""
        self._check_lent()
        model = whole.simplified(self._wiring, kwargs)
        if inplace:
            self._take(model)
            return self
        return self._of(model).model

    def extract(
        self,
        new_model_save_path: str | Path,
        input_tensor_name_list: Sequence[str],
        output_tensor_name_list: Sequence[str],
        enable_model_check: bool = True,  # noqa: ARG002 -- MagicONNX's form
    ) -> None:
        """Save the part between some values: of the graph as it is now, not of the file."""
        self._check_lent()
        part = whole.cut(self._wiring, input_tensor_name_list, output_tensor_name_list)
        self._of(part).save(new_model_save_path)

    def toposort(self) -> list[Node]:
        """Sort the nodes and return them."""
        self._wiring.see_all()
        sort_nodes(self._wiring)
        return list(self._wiring.nodes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UnsupportedAttribute(f"MagicONNX OnnxGraph.{name}")


class ParsedGraph(OnnxGraph):
    """A graph as MagicONNX's later branch has it: inputs are objects, attributes Python values."""

    _kinds = Kinds(Node, Initializer, PlaceHolder)
    _lifts_constants = True

    @property
    def inputs(self) -> list[PlaceHolder]:
        """Its inputs, in a list that may be changed."""
        return self._wiring.inputs

    @property
    def outputs(self) -> list[PlaceHolder]:
        """Its outputs, in a list that may be changed."""
        return self._wiring.outputs

    def add_node(
        self,
        name: str,
        op_type: str,
        attrs: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        domain: str | None = None,
    ) -> Node:
        """Add a node; `save` puts it where it belongs."""
        return super().add_node(name, op_type, attrs, inputs, outputs, domain)

    def remove(self, name: str, maps: Mapping[int, int] | None = None) -> None:
        """Remove a node: what read an output reads the input that `maps` gives it."""
        surgery.remove(self._wiring, name, _DEFAULT_MAPS if maps is None else maps)


class _NotSingle(UsageError, RuntimeError):
    """The call leaves open what is meant."""


def _numbers(given: int | Sequence[int]) -> list[int]:
    return [given] if isinstance(given, int) else list(given)


def _spread(numbers: list[int], count: int) -> list[int]:
    return numbers * count if len(numbers) == 1 else numbers


def _digest(proto: Any) -> int:
    return zlib.crc32(proto.SerializeToString(deterministic=True))
