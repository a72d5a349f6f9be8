"""What OpenVINO really executes of a model, and which tensors of the model can be read there.

OpenVINO rewrites a model while it compiles it. Each node it executes names the operators of the
model that it took in ("originalLayersNames"). The last of them gives the tensor that the node
leaves behind: making that one an output keeps the fusion, making any other one breaks it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shipway.engines.openvino.identities import same_values
from shipway.engines.openvino.nodes import PLUMBING, Node, layout_name, read_nodes
from shipway.engines.tapping import Tap
from shipway.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from openvino import CompiledModel, Model

__all__ = ["Execution", "Place", "read_execution"]

_DTYPES = frozenset(dtype.openvino for dtype in DTYPES)
_FLOATS = ("f32", "bf16", "f16", "f64")
_NO_OPERATORS = ("Constant", "Parameter", "Result")
_CONTAINERS = ("If", "Loop", "TensorIterator")
_NOBODY = -1

_FOLDED = "a constant: OpenVINO computed it while compiling"
_GONE = "OpenVINO removed it, or computes it inside other operators without saying so"
_OWN = "OpenVINO made this operator itself; no tensor of the model is computed there"
_WEIGHTS = "prepares a weight; it does not depend on the inputs"
_REORDER = "moves a tensor to another layout or precision; no tensor of the model is computed there"
_INSIDE = "what runs inside this operator is not shown, only what it returns"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tensor of a tap is in the model.

    Args:
        op: Friendly name of the operator, unique in the file.
        port: Which of its outputs.
        dtype: OpenVINO's name of the element type to hand it out in: the one it is computed in.
        order: Position of the node that computes it.
        is_suspect: Reading it is likely to change the result, because it is computed or used in the
            middle of a node.
    """

    op: str
    port: int
    dtype: str
    order: int
    is_suspect: bool


@dataclass(frozen=True, slots=True)
class Execution:
    """What is executed, and what of it can be read.

    Args:
        taps: In the order of execution.
        places: Where the taps of kind "value" are.
        untapped: What cannot be read, with the reason.
        nodes: What is executed.
    """

    taps: tuple[Tap, ...]
    places: Mapping[str, Place]
    untapped: Mapping[str, str]
    nodes: tuple[Node, ...]

    def first_change(self, plain: CompiledModel, tapped: CompiledModel, name: str) -> str:
        """Say where the execution changes when a tensor is read.

        Args:
            plain: The model. Like the next one it has run: with free sizes, only then is it known
                what is executed.
            tapped: The same model with that tensor as an output.
            name: The tap.

        Returns:
            "before" the node that computes it, "at" that node, or only "after" it.
        """
        ops = {op for node in self.nodes for op, _ in node.inside}
        there = {node.manner for node in read_nodes(tapped, ops)}
        last = self.places[name].order
        here = (node for node in read_nodes(plain, ops) if node.inside)
        changed = (node.order for node in here if node.manner not in there)
        first = min(changed, default=last + 1)
        return "before" if first < last else "at" if first == last else "after"


def read_execution(
    model: Model,
    compiled: CompiledModel,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Execution:
    """Find the tensors of a model that can be read where it is executed.

    Args:
        model: As it was read.
        compiled: The same model, compiled.
        inputs: Its inputs.
        outputs: Its outputs.
    """
    taken = {spec.name for spec in (*inputs, *outputs)}
    reader = _Reader(model, taken, _results(model, outputs))
    nodes = read_nodes(compiled, reader.ops)
    reader.read(nodes)
    given = [Tap(spec.name, 0, kind="input", names=(spec.name,)) for spec in inputs]
    names = {tap.name for tap in given}
    shown = [tap for tap in (*reader.taps, *reader.loose_outputs()) if tap.name not in names]
    return Execution(
        taps=tuple(replace(tap, order=at) for at, tap in enumerate((*given, *shown))),
        places=reader.places,
        untapped=reader.untapped,
        nodes=nodes,
    )


def _results(model: Model, outputs: Sequence[TensorSpec]) -> dict[tuple[str, int], list[str]]:
    """Return the names of the outputs that each output of an operator leads to."""
    found: dict[tuple[str, int], list[str]] = {}
    for spec in outputs:
        for result in model.outputs:
            if spec.name in result.get_names():
                source = result.get_node().input_value(0)
                key = (source.get_node().get_friendly_name(), source.get_index())
                found.setdefault(key, []).append(spec.name)
                break
    return found


@dataclass(slots=True)
class _Reader:
    """Goes through the nodes once and collects taps.

    Args:
        model: Whose operators are meant.
        taken: Names that taps have already.
        results: Names of the model's outputs by the output of the operator behind them.
    """

    model: Any
    taken: set[str]
    results: Mapping[tuple[str, int], list[str]]
    ops: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    taps: list[Tap] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    untapped: dict[str, str] = field(default_factory=dict)
    unnamed: dict[tuple[str, int], str] = field(default_factory=dict)
    same: set[str] = field(default_factory=set)
    fused: set[str] = field(default_factory=set)
    moving: set[str] = field(default_factory=set)
    absorbed: dict[int, list[str]] = field(default_factory=dict)
    covered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Number the operators, name the nameless, and see which depend on the inputs."""
        counts: dict[str, int] = {}
        for at, op in enumerate(self.model.get_ordered_ops()):
            name, kind = op.get_friendly_name(), op.get_type_name()
            self.ops[name], self.positions[name] = op, at
            sources = (value.get_node().get_friendly_name() for value in op.input_values())
            if kind == "Parameter" or not self.moving.isdisjoint(sources):
                self.moving.add(name)
            # OpenVINO's own names have numbers that differ each time the model is converted.
            for port in range(op.get_output_size()):
                if kind not in _NO_OPERATORS and not op.output(port).get_names():
                    counts[kind] = counts.get(kind, 0) + 1
                    self.unnamed[name, port] = f"{kind}#{counts[kind]}"

    def read(self, nodes: Sequence[Node]) -> None:
        """Collect the taps of all nodes, and why the others have none."""
        folded = {op for node in nodes if node.kind == "Const" for op, _ in node.inside}
        nodes = [node for node in nodes if node.kind not in PLUMBING]
        last = {inside: node.order for node in nodes for inside in node.inside}
        last |= {(op, None): node.order for node in nodes for op, _ in node.inside}
        convolutions = (node for node in nodes if node.kind == "Convolution")
        self.fused = {op for node in convolutions for op, _ in node.inside[1:]}
        self.covered = {op for node in nodes for op, _ in node.inside}
        self._absorb(nodes, folded)
        for node in nodes:
            self._read(node, last)
        self._explain(folded)

    def _absorb(self, nodes: Sequence[Node], folded: Collection[str]) -> None:
        """Find the operators that no node names, but that only one node can make use of.

        A node that computes x * sigmoid(x) names the product alone.
        """
        owners: dict[str, set[int]] = {}
        for node in nodes:
            for op, _ in node.inside:
                owners.setdefault(op, set()).add(node.order)
        for name in reversed(self.ops):
            if name in owners or name not in self.moving or name in folded:
                continue
            readers = {
                reader.get_node().get_friendly_name()
                for output in self.ops[name].outputs()
                for reader in output.get_target_inputs()
            }
            owners[name] = set().union(*(owners.get(reader, {_NOBODY}) for reader in readers))
            if len(owners[name]) == 1 and self._computes(name):
                self.absorbed.setdefault(min(owners[name]), []).append(name)

    def _read(self, node: Node, last: Mapping[tuple[str, int | None], int]) -> None:
        inside = [one for one in node.inside if self._computes(one[0])]
        if not inside:
            why = _REORDER if node.kind == "Reorder" else _OWN
            self.untapped[node.name] = _WEIGHTS if node.is_weight else why
            return
        op, port = max(inside, key=lambda one: self.positions[one[0]])
        if last[op, port] > node.order:
            self.untapped[node.name] = f"computes a part of {self._title(op, port or 0)} only"
            return
        absorbed = self.absorbed.get(node.order, [])
        self.covered.update(absorbed)
        covers = self._covers({*(one for one, _ in inside), *absorbed} - {op})
        ports = range(self.ops[op].get_output_size()) if port is None else (port,)
        for each in ports:
            if self.ops[op].output(each).get_target_inputs():
                self._add(node, op, each, covers)
        if node.kind in _CONTAINERS:
            self.untapped[f"{self._title(op, 0)} (inside)"] = _INSIDE

    def _add(self, node: Node, op: str, port: int, covers: tuple[str, ...]) -> None:
        output = self.ops[op].output(port)
        names = (*sorted(output.get_names()), *same_values(output))
        self.same.update(names)
        covers = tuple(name for name in covers if name not in names)
        layout = layout_name(_at(node.layouts, port))
        tap = Tap("", 0, op=node.kind, names=names, covers=covers, layout=layout)
        results = self.results.get((op, port), ())
        for name in results:
            others = tuple(other for other in names if other != name)
            self.taps.append(replace(tap, name=name, kind="output", names=(name, *others)))
        if results:
            return
        dtype = _dtype(output.get_element_type().to_string(), node.precision)
        if dtype not in _DTYPES:
            self.untapped[self._title(op, port)] = f"its element type is {dtype}"
            return
        name = self._unique(self._title(op, port))
        self.taps.append(replace(tap, name=name))
        self.places[name] = Place(
            op, port, dtype, node.order, node.is_open or self._is_operand(output)
        )

    def _is_operand(self, output: Any) -> bool:
        """Say whether a convolution adds this tensor to its result."""
        readers = {reader.get_node().get_friendly_name() for reader in output.get_target_inputs()}
        return not self.fused.isdisjoint(readers)

    def loose_outputs(self) -> list[Tap]:
        """Return the outputs that no node is known to compute: inputs and constants handed on."""
        known = {tap.name for tap in self.taps}
        names = (name for names in self.results.values() for name in names if name not in known)
        return [Tap(name, 0, kind="output", names=(name,)) for name in names]

    def _computes(self, op: str) -> bool:
        return self.ops[op].get_type_name() not in _NO_OPERATORS

    def _covers(self, ops: Collection[str]) -> tuple[str, ...]:
        """Return the names of the tensors that operators compute, in order."""
        names = (
            name
            for op in sorted(ops, key=self.positions.__getitem__)
            for output in self.ops[op].outputs()
            for name in sorted(output.get_names())
        )
        return tuple(dict.fromkeys(names))

    def _title(self, op: str, port: int) -> str:
        names = self.ops[op].output(port).get_names()
        return min(names) if names else self.unnamed[op, port]

    def _unique(self, name: str) -> str:
        number, unique = 1, name
        while unique in self.taken:
            number += 1
            unique = f"{name} ({number})"
        self.taken.add(unique)
        return unique

    def _explain(self, folded: Collection[str]) -> None:
        """Say of every tensor of the model that no node computes what became of it."""
        for name, op in self.ops.items():
            if name in self.covered or not self._computes(name):
                continue
            reason = _GONE if name in self.moving and name not in folded else _FOLDED
            for output in op.outputs():
                hidden = output.get_names() - self.same
                self.untapped.update(dict.fromkeys(hidden, reason))


def _dtype(own: str, computed: str) -> str:
    """Return the element type to read a tensor in: of a float, what its node computes in.

    Read in another one, a tensor draws the operators before it to that one (2026.4). What the node
    hands on may differ: a reduction in bf16 before a product in f32 widens its result.
    """
    return computed if own in _FLOATS and computed in _FLOATS else own


def _at(values: Sequence[str], port: int) -> str:
    return values[port] if port < len(values) else values[0]
