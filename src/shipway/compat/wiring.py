"""The nodes of one graph, wired by name: who writes a name and who reads it, at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import onnx_ir as ir

from shipway.compat.elements import Constant, Element, Operator, Placeholder
from shipway.compat.faults import NameTaken, NodeMissing
from shipway.compat.watched import Watched
from shipway.graph.locating import all_nodes

__all__ = ["Kinds", "Wiring"]

_NUMBERS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


@dataclass(frozen=True, slots=True)
class Kinds:
    """The classes a drop-in has for what a graph is made of."""

    operator: type[Operator]
    constant: type[Constant]
    placeholder: type[Placeholder]


class Wiring:
    """What the main graph of a model consists of, for one graph object of a script.

    Wires are names here and only here: the model gets them back from `settling.settle`.

    Args:
        model: The model; this takes it over.
        kinds: Classes of the elements.
        lift_constants: Whether Constant nodes become constants of the graph.
    """

    def __init__(self, model: ir.Model, kinds: Kinds, *, lift_constants: bool = True) -> None:
        """Give everything in the main graph an element."""
        self.model = model
        self.kinds = kinds
        self.touched: set[Element] = set()
        self.domains = {node.domain for node in all_nodes(model)}
        graph = model.graph
        lifted = dict(_liftable(graph)) if lift_constants else {}
        operators = [self._wrap(node) for node in graph if node not in lifted]
        constants = [kinds.constant.wrap(one) for one in graph.initializers.values()]
        constants += [kinds.constant(*one) for one in lifted.values()]
        overridable = set(graph.initializers)
        inputs = [kinds.placeholder.wrap(one) for one in graph.inputs]
        outputs = [kinds.placeholder.wrap(_declaration(one)) for one in graph.outputs]
        self._names: dict[str, list[Element]] | None = None
        self._positions: dict[Operator, int] | None = None
        self._writers: dict[str, dict[Operator, None]] = {}
        self._readers: dict[str, dict[Operator, None]] = {}
        self._unseen: set[Operator] = set()
        self._holders: dict[Operator, None] = {}
        self.inputs, self.outputs = self._make_members(), self._make_members()
        self.initializers, self.nodes = self._make_members(), self._make_members()
        self.inputs.extend(one for one in inputs if one.name not in overridable)
        self.outputs.extend(outputs)
        self.initializers.extend(constants)
        self.nodes.extend(operators)
        self.see_all()
        self.touched.clear()

    def _wrap(self, node: ir.Node) -> Operator:
        return self.kinds.operator.wrap(node, node.name or f"{node.op_type}_{_first_name(node)}")

    # ---- who is there

    def elements(self) -> Iterator[Element]:
        """Yield inputs, outputs, nodes and constants."""
        return chain(self.inputs, self.outputs, self.nodes, self.initializers)

    def find(self, name: str, *kinds: type[Element]) -> Element | None:
        """Return the element of a name; constants come before nodes, nodes before placeholders."""
        if self._names is None:
            self._names = {}
            for one in self.elements():
                self._names.setdefault(one.name, []).append(one)
        found = [one for one in self._names.get(name, ()) if not kinds or isinstance(one, kinds)]
        rank = {Constant: 0, Operator: 1, Placeholder: 2}
        found.sort(key=lambda one: next(rank[kind] for kind in rank if isinstance(one, kind)))
        return found[0] if found else None

    def get(self, name: str, *kinds: type[Element]) -> Element:
        """Return the element of a name.

        Raises:
            NodeMissing: There is none.
        """
        found = self.find(name, *kinds)
        if found is None:
            raise NodeMissing(name)
        return found

    def check_free(self, name: str) -> None:
        """Refuse a name that is taken.

        Raises:
            NameTaken: It is.
        """
        if self.find(name) is not None:
            raise NameTaken(name)

    def position(self, node: Operator) -> int:
        """Return where a node stands in the list of nodes."""
        if self._positions is None:
            self._positions = {one: index for index, one in enumerate(self.nodes)}
        return self._positions[node]

    def is_output(self, name: str) -> bool:
        """Whether a name is an output of the graph."""
        return any(one.name == name for one in self.outputs)

    # ---- who is wired to whom

    def writer(self, name: str) -> Operator | None:
        """Return the node that writes a name; the first one while there are two."""
        found = self._writers.get(name) if name else None
        if not found:
            return None
        return next(iter(found)) if len(found) == 1 else min(found, key=self.position)

    def readers(self, name: str) -> list[Operator]:
        """Return the nodes that read a name, in the order of the graph."""
        found = self._readers.get(name, {}) if name else {}
        return list(found) if len(found) < 2 else sorted(found, key=self.position)

    def seen_readers(self, name: str) -> list[Operator]:
        """Return the readers of a name as the old tools told them.

        A node that was only just added is left out while there are others: scripts add a node on
        a name and then lead that name's readers to it.
        """
        found = self.readers(name)
        return [one for one in found if one not in self._unseen] or found

    def see_all(self) -> None:
        """Tell of every reader from now on."""
        self._unseen.clear()

    def redirect(self, old: str, new: str) -> None:
        """Let everything that reads one name read another, in sub-graphs too."""
        for node in (*self.readers(old), *self._holders):
            node.redirect(old, new)

    # ---- what elements and lists report

    def forget_names(self) -> None:
        """Look names up anew."""
        self._names = None

    def reads_changed(self, node: Operator, before: Iterable[str], after: Iterable[str]) -> None:
        """Note that a node reads other names now."""
        _move(self._readers, node, before, after)

    def writes_changed(self, node: Operator, before: Iterable[str], after: Iterable[str]) -> None:
        """Note that a node writes other names now."""
        _move(self._writers, node, before, after)

    def add_node(self, node: Operator) -> Operator:
        """Add a node whose name is free, as the old tools did: nobody is told of it yet.

        Raises:
            NameTaken: It is not.
        """
        self.check_free(node.name)
        self.see_all()
        self.nodes.append(node)
        return node

    def _make_members(self) -> Watched[Any]:
        """Return a list whose elements belong to this graph while they are in it."""

        def changed(before: list[Element]) -> None:
            self._positions = None
            former, present = set(before), set(members)
            for one in before if former - present else ():
                if one not in present:
                    self._leave(one)
            for one in list(members) if present - former else ():
                if one not in former:
                    self._join(one)

        members = Watched[Any]((), changed)
        return members

    def _leave(self, one: Element) -> None:
        one.wiring = None
        if self._names is not None:
            self._names[one.name].remove(one)
        if isinstance(one, Operator):
            self._holders.pop(one, None)
            _move(self._readers, one, one.inputs, ())
            _move(self._writers, one, one.outputs, ())

    def _join(self, one: Element) -> None:
        one.wiring = self
        one.touch()
        if self._names is not None:
            self._names.setdefault(one.name, []).append(one)
        if isinstance(one, Operator):
            if one.names_outside:
                self._holders[one] = None
            self._unseen.add(one)
            _move(self._readers, one, (), one.inputs)
            _move(self._writers, one, (), one.outputs)


def _move(
    index: dict[str, dict[Operator, None]],
    node: Operator,
    before: Iterable[str],
    after: Iterable[str],
) -> None:
    after = set(after)
    for name in set(before) - after:
        index.get(name, {}).pop(node, None)
    for name in after:
        index.setdefault(name, {})[node] = None


def _first_name(node: ir.Node) -> str:
    return next((one.name for one in node.outputs if one.name), "")


def _declaration(output: ir.Value) -> ir.Value:
    """Return what is declared of an output, apart from the value that has the numbers."""
    return ir.Value(
        name=output.name,
        type=output.type,
        shape=None if output.shape is None else output.shape.copy(),
        doc_string=output.doc_string,
        metadata_props=dict(output.metadata_props),
    )


def _liftable(graph: ir.Graph) -> Iterator[tuple[ir.Node, tuple[str, Any]]]:
    """Yield Constant nodes of numbers that no caller reads, with their name and numbers."""
    for node in graph:
        if node.op_type != "Constant" or node.domain or node.outputs[0].is_graph_output():
            continue
        for name, attribute in node.attributes.items():
            if name in _NUMBERS:
                value = np.array(attribute.value, _NUMBERS[name])
                yield node, (node.outputs[0].name or "", value)
            elif name == "value" and attribute.as_tensor().dtype is not ir.DataType.STRING:
                yield node, (node.outputs[0].name or "", attribute.as_tensor().numpy())
