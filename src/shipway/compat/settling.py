"""Ties the wires of a graph: every name a script left behind becomes a connection in the model."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Iterable

import onnx_ir as ir

from shipway.compat.elements import Constant, Element, Operator, uses_outside
from shipway.compat.faults import CycleFound
from shipway.compat.wiring import Wiring
from shipway.errors import ModelError

__all__ = ["settle", "sort_nodes"]


def settle(wiring: Wiring, *, strict: bool = True) -> ir.Model:
    """Bring the model up to what the script made of it, and return it.

    Nodes are sorted. What is declared of values behind an edit is dropped, for it may be false.

    Args:
        wiring: The graph.
        strict: Whether every name an output depends on must lead somewhere. Nodes that wait for a
            name nothing computes are then left out, if no output needs them, and a warning says so.

    Raises:
        ModelError: A name leads nowhere, or two nodes write it.
        CycleFound: Nodes wait for each other.
    """
    for element in list(wiring.elements()):
        element.flush()
    if strict:
        _drop_waiting(wiring)
    _check_single(wiring)
    sort_nodes(wiring)
    stale = _behind(wiring)
    _untie(wiring)
    _Tie(wiring).tie()
    _drop_declarations(wiring, stale)
    return wiring.model


def sort_nodes(wiring: Wiring) -> None:
    """Sort the nodes so that each stands behind what it reads; those in order already stay.

    Raises:
        CycleFound: Nodes wait for each other.
    """
    waiting = {node: _needs(wiring, node) for node in wiring.nodes}
    waited_for: dict[Operator, list[Operator]] = {}
    for node, needs in waiting.items():
        for one in needs:
            waited_for.setdefault(one, []).append(node)
    ready = [wiring.position(node) for node, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    nodes, done = list(wiring.nodes), []
    while ready:
        node = nodes[heapq.heappop(ready)]
        done.append(node)
        for reader in waited_for.get(node, ()):
            waiting[reader].discard(node)
            if not waiting[reader]:
                heapq.heappush(ready, wiring.position(reader))
    if len(done) < len(nodes):
        left = ", ".join(f"'{node.name}'" for node in nodes if waiting[node])
        raise CycleFound(
            f"Cycle detected in graph! These nodes wait for each other: {_cut(left)}.",
            hint="Look at the names the last edit gave to inputs and outputs.",
        )
    if done != nodes:
        wiring.nodes.replace(done)


def _needs(wiring: Wiring, node: Operator) -> set[Operator]:
    names = (*node.inputs, *node.names_outside)
    return {one for name in names if (one := wiring.writer(name)) is not None}


def _drop_waiting(wiring: Wiring) -> None:
    """Leave out nodes that wait for a name nothing computes.

    Raises:
        ModelError: An output depends on such a name.
    """
    given = {one.name for one in (*wiring.inputs, *wiring.initializers)}
    waiting: dict[Operator, str] = {}
    lost: dict[str, str] = {}
    grew = True
    while grew:
        grew = False
        for node in wiring.nodes:
            if node in waiting:
                continue
            for name in (*node.inputs, *node.names_outside):
                missing = bool(name) and name not in given and wiring.writer(name) is None
                if missing or name in lost:
                    waiting[node] = lost.get(name, name)
                    lost.update(dict.fromkeys(filter(None, node.outputs), waiting[node]))
                    grew = True
                    break
    for output in wiring.outputs:
        _check_output(wiring, output, given, lost, waiting)
    if waiting:
        names = ", ".join(f"'{node.name}'" for node in waiting)
        warnings.warn(
            f"left out, for they wait for names that nothing computes: {_cut(names)}", stacklevel=2
        )
        wiring.nodes.replace(node for node in wiring.nodes if node not in waiting)


def _check_output(
    wiring: Wiring,
    output: Element,
    given: set[str],
    lost: dict[str, str],
    waiting: dict[Operator, str],
) -> None:
    if output.name in lost:
        name = lost[output.name]
        first = next(node for node, missing in waiting.items() if missing == name)
        raise ModelError(
            f"Nothing computes '{name}', which '{first.name}' ({first.op_type}) reads and the "
            f"output '{output.name}' depends on.",
            hint="Did the script remove its node, or rename an output, and leave a reader behind?",
        )
    if output.name not in given and wiring.writer(output.name) is None:
        raise ModelError(
            f"Nothing computes the output '{output.name}' of the graph.",
            hint="Give that name to an output of a node, or remove the output from the graph.",
        )


def _check_single(wiring: Wiring) -> None:
    writers: dict[str, str] = {one.name: "the graph" for one in wiring.inputs}
    writers.update((one.name, "a constant") for one in wiring.initializers)
    for node in wiring.nodes:
        for name in filter(None, node.outputs):
            if name in writers:
                raise ModelError(
                    f"'{name}' is written twice: by {writers[name]} and by '{node.name}' "
                    f"({node.op_type}).",
                    hint="Remove one of the two, or give its output another name.",
                )
            writers[name] = f"'{node.name}'"


def _behind(wiring: Wiring) -> set[Operator]:
    """Return the nodes whose outputs may have changed since the model was last whole."""
    found: set[Operator] = set()
    pending = [one for one in wiring.touched if one.wiring is wiring]
    wiring.touched.clear()
    reading: dict[str, list[Operator]] = {}
    for node in wiring.nodes:
        for name in {*node.inputs, *node.names_outside}:
            reading.setdefault(name, []).append(node)
    while pending:
        one = pending.pop()
        if isinstance(one, Operator):
            if one in found:
                continue
            found.add(one)
        names = one.outputs if isinstance(one, Operator) else [one.name]
        pending += [reader for name in names if name for reader in reading.get(name, ())]
    return found


def _untie(wiring: Wiring) -> None:
    graph = wiring.model.graph
    graph.outputs.clear()
    for node in (*graph, *(one.ir for one in wiring.nodes)):
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
        for inner, index, _ in list(uses_outside(node)):
            inner.replace_input_with(index, None)
    graph.remove(list(graph))
    graph.inputs.clear()
    graph.initializers.clear()


class _Tie:
    """Ties an untied graph."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._graph = wiring.model.graph
        self._scope: dict[str, ir.Value] = {}

    def tie(self) -> None:
        self._place_given()
        for operator in self._wiring.nodes:
            self._place_outputs(operator)
        for operator in self._wiring.nodes:
            node = operator.ir
            node.name = operator.name
            node.resize_inputs(len(operator.inputs))
            for index, name in enumerate(operator.inputs):
                node.replace_input_with(index, self._value(name))
            self._tie_outside(operator)
        self._graph.extend(operator.ir for operator in self._wiring.nodes)
        self._place_declared()

    def _place_given(self) -> None:
        for placeholder in self._wiring.inputs:
            placeholder.ir.name = placeholder.name
            self._scope[placeholder.name] = placeholder.ir
            self._graph.inputs.append(placeholder.ir)
        for constant in self._wiring.initializers:
            value = constant.ir
            value.name = constant.name
            self._scope[constant.name] = value
            self._graph.register_initializer(value)
            if constant.overridable:
                self._graph.inputs.append(value)

    def _place_outputs(self, operator: Operator) -> None:
        node = operator.ir
        node.resize_outputs(len(operator.outputs))
        for value, name in zip(node.outputs, operator.outputs, strict=True):
            value.name = name or ""
            if name:
                self._scope[name] = value

    def _tie_outside(self, operator: Operator) -> None:
        uses = operator.uses_outside
        for (node, index, _), name in zip(uses, operator.names_outside, strict=True):
            node.replace_input_with(index, self._value(name))
        operator.uses_outside = [
            (node, index, value)
            for node, index, _ in uses
            if (value := node.inputs[index]) is not None
        ]

    def _place_declared(self) -> None:
        for placeholder in self._wiring.outputs:
            value, declared = self._value(placeholder.name), placeholder.ir
            if value is None:
                continue
            if not isinstance(self._wiring.find(placeholder.name, Constant), Constant):
                value.type, value.shape = declared.type, declared.shape
            value.metadata_props.update(declared.metadata_props)
            value.doc_string = declared.doc_string or value.doc_string
            self._graph.outputs.append(value)

    def _value(self, name: str | None) -> ir.Value | None:
        """Return the value of a name, one that nothing computes where the graph has none."""
        if not name:
            return None
        if name not in self._scope:
            self._scope[name] = ir.Value(name=name)
        return self._scope[name]


def _drop_declarations(wiring: Wiring, stale: Iterable[Operator]) -> None:
    declared = {one.name for one in wiring.outputs}
    for operator in stale:
        for value in operator.ir.outputs:
            if value.name not in declared:
                value.type = value.shape = None


def _cut(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ..."
