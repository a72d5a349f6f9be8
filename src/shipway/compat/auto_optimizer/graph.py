"""OnnxGraph with the calls auto_optimizer has, on a model of Shipway's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from shipway.compat import surgery, whole
from shipway.compat.auto_optimizer.node import BaseNode, Initializer, Node, PlaceHolder
from shipway.compat.auto_optimizer.opsets import OpsetImports
from shipway.compat.auto_optimizer.parts import declared_value, declared_values, part_between
from shipway.compat.faults import UnsupportedAttribute
from shipway.compat.journal import JOURNAL
from shipway.compat.settling import settle, sort_nodes
from shipway.compat.wiring import Kinds, Wiring
from shipway.errors import UsageError
from shipway.graph.joining import join_graphs
from shipway.graph.opsets import convert_opset

__all__ = ["BaseGraph", "OnnxGraph"]

_KINDS = Kinds(Node, Initializer, PlaceHolder)
_FIRST_OPSET = 11


class BaseGraph:
    """What scripts name in annotations and isinstance."""


class OnnxGraph(BaseGraph):
    """A graph whose nodes are wired by name.

    Args:
        name: Its name.
        nodes: Its nodes.
        inputs: Its inputs.
        outputs: Its outputs.
        initializers: Its constants.
        value_infos: Taken and not needed: what is declared of values follows from the rest.
        kwargs: `opset_imports`, a number or ids with domains; `ir_version`.
    """

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node] | None = None,
        inputs: Sequence[PlaceHolder] | None = None,
        outputs: Sequence[PlaceHolder] | None = None,
        initializers: Sequence[Initializer] | None = None,
        value_infos: Sequence[PlaceHolder] | None = None,  # noqa: ARG002 -- see Args
        **kwargs: Any,
    ) -> None:
        """Make a graph of parts."""
        opsets = kwargs.get("opset_imports") or _FIRST_OPSET
        imports = (
            {"": opsets} if isinstance(opsets, int) else {one.domain: one.version for one in opsets}
        )
        self._take(whole.new_model(name, imports, kwargs.get("ir_version")))
        wiring = self._wiring
        wiring.inputs.extend(inputs or ())
        wiring.outputs.extend(outputs or ())
        wiring.initializers.extend(initializers or ())
        wiring.nodes.extend(nodes or ())
        wiring.see_all()

    @classmethod
    def parse(cls, path_or_bytes: Any, add_name_suffix: bool = False) -> Self:
        """Read a model.

        Args:
            path_or_bytes: A path, a ModelProto or a GraphProto.
            add_name_suffix: Whether node names get "_op" behind them.

        Raises:
            ModelError: The file is absent or broken.
        """
        return cls._of(whole.read_model(path_or_bytes), suffix="_op" if add_name_suffix else "")

    @classmethod
    def _of(cls, model: ir.Model, suffix: str = "") -> Self:
        self = cls.__new__(cls)
        self._take(model)
        for node in self._wiring.nodes if suffix else ():
            node.name = f"{node.name}{suffix}"
        return self

    def _take(self, model: ir.Model) -> None:
        self._wiring = Wiring(model, _KINDS)
        self._opsets = OpsetImports(model)

    def _settled(self, *, strict: bool = True) -> ir.Model:
        self._opsets.flush()
        return settle(self._wiring, strict=strict)

    def copy_model(self) -> ir.Model:
        """Return the graph as it is now in a model of its own."""
        return self._settled(strict=False).clone()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self._of(self.copy_model())

    # ---- what is there

    @property
    def name(self) -> str:
        """Name of the graph."""
        return self._wiring.model.graph.name or ""

    @name.setter
    def name(self, name: str) -> None:
        self._wiring.model.graph.name = name

    @property
    def inputs(self) -> list[PlaceHolder]:
        """Its inputs, in a list that may be changed; without those that have a default value."""
        return self._wiring.inputs

    @property
    def outputs(self) -> list[PlaceHolder]:
        """Its outputs, in a list that may be changed."""
        return self._wiring.outputs

    @property
    def nodes(self) -> list[Node]:
        """Its nodes, in a list that may be changed."""
        return self._wiring.nodes

    @property
    def initializers(self) -> list[Initializer]:
        """Its constants, in a list that may be changed."""
        return self._wiring.initializers

    @initializers.setter
    def initializers(self, value: Sequence[Initializer]) -> None:
        self._wiring.initializers.replace(value)

    @property
    def value_infos(self) -> list[PlaceHolder]:
        """What is declared of values between, of those that an edit has not made uncertain."""
        return declared_values(self._wiring)

    @property
    def opset_imports(self) -> Any:
        """The opsets it imports, all of them, in a list that may be changed."""
        return self._opsets

    @opset_imports.setter
    def opset_imports(self, opset: int | None) -> None:
        if opset:
            convert_opset(self._settled(), opset)
            self._take(self._wiring.model)

    def __getitem__(self, key: str) -> Any:
        return self._wiring.get(key)

    def __setitem__(self, key: str, value: BaseNode) -> None:
        surgery.replace(self._wiring, key, value)

    def get_node(self, name: str, node_type: type[BaseNode] = Node) -> Any:
        """Return the node, constant or placeholder of a name, None if there is none."""
        found = self._wiring.find(name, node_type)
        if found is None and issubclass(PlaceHolder, node_type):
            return self.get_value_info(name)
        return found

    def get_nodes(self, op_type: str) -> list[Any]:
        """Return all nodes of an operator; "Initializer" and "PlaceHolder" are operators too."""
        return [one for one in self._wiring.elements() if one.op_type == op_type]

    def get_value_info(self, io_name: str) -> PlaceHolder | None:
        """Return what is declared of a value, None where nothing is."""
        return declared_value(self._wiring, io_name)

    def get_prev_node(self, input_name: str) -> Any:
        """Return the node that writes a name, None if there is none."""
        return self._wiring.writer(input_name)

    def get_next_nodes(self, output_name: str) -> list[Any]:
        """Return the nodes that read a name."""
        return list(self._wiring.seen_readers(output_name))

    # ---- edits

    def add_input(self, name: str, dtype: Any, shape: Sequence[int | str] | None) -> PlaceHolder:
        """Add an input."""
        self._wiring.check_free(name)
        self._wiring.inputs.append(PlaceHolder(name, np.dtype(dtype), shape))
        return self._wiring.inputs[-1]  # type: ignore[no-any-return] # the line above put it there

    def add_output(self, name: str, dtype: Any, shape: Sequence[int | str] | None) -> PlaceHolder:
        """Add an output."""
        self._wiring.check_free(name)
        self._wiring.outputs.append(PlaceHolder(name, np.dtype(dtype), shape))
        return self._wiring.outputs[-1]  # type: ignore[no-any-return] # the line above put it there

    def add_initializer(self, name: str, value: NDArray[Any]) -> Initializer:
        """Add a constant."""
        self._wiring.check_free(name)
        self._wiring.initializers.append(Initializer(name, value))
        return self._wiring.initializers[-1]  # type: ignore[no-any-return] # the line above put it there

    def add_node(
        self,
        name: str,
        op_type: str,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        attrs: Mapping[str, Any] | None = None,
        domain: str = "",
    ) -> Node:
        """Add a node; `save` puts it where it belongs."""
        node = Node(name, op_type, inputs, outputs, attrs, domain)
        self._wiring.add_node(node)
        return node

    def insert_node(
        self, refer_name: str, insert_node: Node, refer_index: int = 0, mode: str = "after"
    ) -> None:
        """Insert a node of one input and one output before or after another."""
        surgery.insert(self._wiring, refer_name, insert_node, refer_index, mode)

    def connect_node(
        self, insert_node: Node, prev_nodes_info: Sequence[str], next_nodes_info: Sequence[str]
    ) -> None:
        """Connect a node with several before and behind it, written "name:number"."""
        surgery.connect(self._wiring, insert_node, prev_nodes_info, next_nodes_info)

    def remove(
        self,
        name: str,
        mapping: Mapping[int, int] | None = None,
        maps: Mapping[int, int] | None = None,
    ) -> bool:
        """Remove a node, constant, input or output; `maps` is an older name of `mapping`."""
        given = mapping if mapping is not None else maps
        surgery.remove(self._wiring, name, {0: 0} if given is None else given)
        return True

    def remove_unused_nodes(self) -> None:
        """Remove what no output needs."""
        surgery.drop_unused(self._wiring)

    def update_map(self) -> None:
        """Do what every call does by itself: tell the truth about who reads and writes."""
        self._wiring.see_all()

    def toposort(self) -> None:
        """Sort the nodes."""
        self._wiring.see_all()
        sort_nodes(self._wiring)

    def keep_default_domain(self) -> None:
        """Move custom nodes to the default domain, which keeps its opset."""
        self._opsets.flush()
        whole.keep_default_domain(self._wiring)
        self._opsets = OpsetImports(self._wiring.model)

    # ---- the whole

    def model(self) -> Any:
        """Return the graph as a ModelProto."""
        self._opsets.flush()
        return whole.to_proto(self._wiring)

    def proto(self) -> Any:
        """Return the graph as a GraphProto."""
        return self.model().graph

    def save(
        self,
        path: str | Path,
        save_as_external_data: bool = False,
        all_tensors_to_one_file: bool = True,
    ) -> None:
        """Save the model, sorted; one that is too large for one file gets a second one."""
        if not all_tensors_to_one_file:
            JOURNAL.unsupported("save(all_tensors_to_one_file=False)")
        self._opsets.flush()
        whole.save_model(self._wiring, path, external=save_as_external_data)

    def infer_shape(self) -> None:
        """Declare of every value between what follows from inputs and constants."""
        self._opsets.flush()
        whole.infer(self._wiring)

    infershape = infer_shape

    def simplify(self, **kwargs: Any) -> Self:
        """Return a simplified copy."""
        self._opsets.flush()
        return self._of(whole.simplified(self._wiring, kwargs))

    def extract(
        self,
        new_model_save_path: str | Path,
        input_name_list: Sequence[str],
        output_name_list: Sequence[str],
        enable_model_check: bool = True,  # noqa: ARG002 -- auto_optimizer's form
    ) -> Self:
        """Save the part between some values, and return it."""
        self._opsets.flush()
        part = self._of(whole.cut(self._wiring, input_name_list, output_name_list))
        part.save(new_model_save_path)
        return part

    def extract_subgraph(
        self,
        start_node_names: Sequence[str] | None = None,
        end_node_names: Sequence[str] | None = None,
        subgraph_path: str | None = None,
        is_check_subgraph: bool = False,  # noqa: ARG002 -- auto_optimizer's form
        input_shape: str | None = None,
        input_dtype: str | None = None,
    ) -> Self:
        """Return the part between some nodes, and save it where a path is given."""
        names = part_between(self._wiring, start_node_names or (), end_node_names or ())
        part = self._of(whole.cut(self._wiring, *names))
        for name, sizes in _pairs(input_shape):
            part.get_node(name, PlaceHolder).shape = [int(size) for size in sizes.split(",")]
        for name, dtype in _pairs(input_dtype):
            part.get_node(name, PlaceHolder).dtype = dtype.replace("fp", "float")
        if subgraph_path:
            part.save(subgraph_path)
        return part

    @classmethod
    def concat_graph(
        cls,
        graph1: OnnxGraph,
        graph2: OnnxGraph,
        io_map: Sequence[tuple[str, str]],
        prefix: str = "pre_",
        graph_name: str | None = None,
    ) -> Self:
        """Return one graph of two; where names clash, those of the first get the prefix."""
        first, second = graph1.copy_model(), graph2.copy_model()
        fed = {target for _, target in io_map}
        if _names(graph1) & (_names(graph2) - fed):
            whole.prefix_names(first, prefix)
            io_map = [(f"{prefix}{source}", target) for source, target in io_map]
        joined = join_graphs(first, second, dict(io_map))
        joined.graph.name = graph_name or f"{graph1.name}_{graph2.name}"
        return cls._of(joined)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UnsupportedAttribute(f"auto_optimizer OnnxGraph.{name}")


def _names(graph: OnnxGraph) -> set[str]:
    found = {one.name for one in (*graph.inputs, *graph.initializers, *graph.nodes)}
    return found.union(*(node.outputs for node in graph.nodes)) - {""}


def _pairs(text: str | None) -> list[tuple[str, str]]:
    """Read "name:value;name:value"."""
    found = []
    for one in (text or "").split(";"):
        name, colon, value = one.strip().rpartition(":")
        if one.strip() and not (colon and name and value):
            raise UsageError(f"'{one}' is not of the form name:value.")
        found.append((name.strip(), value.strip()))
    return [pair for pair in found if pair[0]]
