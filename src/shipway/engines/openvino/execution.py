"""What OpenVINO really executes of a model, and which tensors of the model can be read there.

OpenVINO rewrites a model while it compiles it. Each node it executes names the operators of the
model that it took in ("originalLayersNames"). The last of them gives the tensor that the node
leaves behind: making that one an output keeps the fusion, making any other one breaks it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shipway.engines.openvino.identities import same_values
from shipway.engines.tapping import Tap
from shipway.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from openvino import CompiledModel, Model

__all__ = ["Execution", "Node", "Place", "read_execution", "split_names"]

_DTYPES = frozenset(dtype.openvino for dtype in DTYPES)
_FLOATS = ("f32", "bf16", "f16", "f64")
_PLUMBING = ("Input", "Output", "Const")
_NO_OPERATORS = ("Constant", "Parameter", "Result")
_MOVERS = ("Reorder", "Reshape", "Transpose")
_CONTAINERS = ("If", "Loop", "TensorIterator")
_LAYOUTS = {"acdb": "NHWC", "acdeb": "NDHWC"}

_FOLDED = "a constant: OpenVINO computed it while compiling"
_GONE = "OpenVINO removed it, or computes it inside another operator without saying so"
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
class Node:
    """A node of the execution.

    Args:
        name: Its name there.
        kind: What it does: "Convolution", "Subgraph".
        primitive: The implementation: "brgconv_avx512_bf16".
        order: Position in the order of execution.
        precision: What it computes in, whatever it hands on.
        precisions: Element type of each of its outputs.
        layouts: Layout of each of its outputs.
        inside: The operators of the model that it took in, with the output where one is named.
        is_weight: It does not depend on the inputs of the model.
        is_open: It ends in an operator that OpenVINO made and the model does not have, or moves
            what such a node computed: a Sigmoid drawn before a Transpose.
    """

    name: str
    kind: str
    primitive: str
    order: int
    precision: str
    precisions: tuple[str, ...]
    layouts: tuple[str, ...]
    inside: tuple[tuple[str, int | None], ...]
    is_weight: bool
    is_open: bool

    @property
    def manner(self) -> tuple[Any, ...]:
        """How it computes what: equal for equal nodes of two compiled models."""
        return self.kind, self.primitive, self.precisions, self.inside


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
        ops = {op: None for node in self.nodes for op, _ in node.inside}
        there = {node.manner for node in _nodes(tapped, ops)}
        last = self.places[name].order
        here = (node for node in _nodes(plain, ops) if node.inside)
        changed = (node.order for node in here if node.manner not in there)
        first = min(changed, default=last + 1)
        return "before" if first < last else "at" if first == last else "after"


def split_names(text: str, known: Collection[str]) -> list[str]:
    """Split names joined by commas; a comma inside a known name does not end it.

    Example:
        >>> split_names("a,b,c,d", {"a", "b,c"})
        ['a', 'b,c', 'd']
    """
    parts = text.split(",") if text else []
    names = []
    while parts:
        joined = (count for count in range(len(parts), 1, -1) if ",".join(parts[:count]) in known)
        count = next(joined, 1)
        names.append(",".join(parts[:count]))
        parts = parts[count:]
    return names


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
    nodes = list(_nodes(compiled, reader.ops))
    reader.read(nodes)
    given = [Tap(spec.name, 0, kind="input", names=(spec.name,)) for spec in inputs]
    names = {tap.name for tap in given}
    shown = [tap for tap in (*reader.taps, *reader.loose_outputs()) if tap.name not in names]
    return Execution(
        taps=tuple(replace(tap, order=at) for at, tap in enumerate((*given, *shown))),
        places=reader.places,
        untapped=reader.untapped,
        nodes=tuple(nodes),
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


def _nodes(compiled: CompiledModel, ops: Mapping[str, Any]) -> Iterator[Node]:
    """Yield the nodes in the order of execution."""
    found = []
    moving: set[str] = set()
    unfinished: set[str] = set()
    for op in compiled.get_runtime_model().get_ordered_ops():
        facts = {name: str(value.value) for name, value in op.get_rt_info().items()}
        originals = split_names(facts.get("originalLayersNames", ""), ops)
        name, kind = op.get_friendly_name(), facts.get("layerType", op.get_type_name())
        sources = {value.get_node().get_friendly_name() for value in op.input_values()}
        if kind == "Input" or not moving.isdisjoint(sources):
            moving.add(name)
        inside = [_operator(name, ops) for name in originals]
        ends_open = bool(inside) and inside[-1] is None and kind not in _PLUMBING
        if ends_open or (kind in _MOVERS and not unfinished.isdisjoint(sources)):
            unfinished.add(name)
        found.append(
            Node(
                name=name,
                kind=kind,
                primitive=facts.get("primitiveType", ""),
                order=int(facts.get("execOrder", "0")),
                precision=facts.get("runtimePrecision", ""),
                precisions=tuple(facts.get("outputPrecisions", "").split(",")),
                layouts=tuple(facts.get("outputLayouts", "").split(",")),
                inside=tuple(filter(None, inside)),
                is_weight=name not in moving,
                is_open=name in unfinished,
            )
        )
    yield from sorted(found, key=lambda node: node.order)


def _operator(name: str, ops: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """Return the operator of the model that a name stands for; "LSTM_5.0" is its first output."""
    if name in ops:
        return name, None
    owner, _, port = name.rpartition(".")
    return (owner, int(port)) if owner in ops and port.isdecimal() else None


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

    def __post_init__(self) -> None:
        """Number the operators, and name those that no tensor of the model names."""
        counts: dict[str, int] = {}
        for at, op in enumerate(self.model.get_ordered_ops()):
            name, kind = op.get_friendly_name(), op.get_type_name()
            self.ops[name], self.positions[name] = op, at
            # OpenVINO's own names have numbers that differ each time the model is converted.
            for port in range(op.get_output_size()):
                if kind not in _NO_OPERATORS and not op.output(port).get_names():
                    counts[kind] = counts.get(kind, 0) + 1
                    self.unnamed[name, port] = f"{kind}#{counts[kind]}"

    def read(self, nodes: Sequence[Node]) -> None:
        """Collect the taps of all nodes, and why the others have none."""
        folded = {op for node in nodes if node.kind == "Const" for op, _ in node.inside}
        nodes = [node for node in nodes if node.kind not in _PLUMBING]
        last = {inside: node.order for node in nodes for inside in node.inside}
        last |= {(op, None): node.order for node in nodes for op, _ in node.inside}
        convolutions = (node for node in nodes if node.kind == "Convolution")
        self.fused = {op for node in convolutions for op, _ in node.inside[1:]}
        for node in nodes:
            self._read(node, last)
        covered = {op for node in nodes for op, _ in node.inside}
        self._explain(covered, folded)

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
        covers = self._covers(inside, op)
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
        layout = _layout(_at(node.layouts, port))
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

    def _covers(self, inside: Collection[tuple[str, int | None]], end: str) -> tuple[str, ...]:
        """Return the names of the tensors computed on the way to the end of a node."""
        ops = sorted({op for op, _ in inside if op != end}, key=self.positions.__getitem__)
        names = (
            name
            for op in ops
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

    def _explain(self, covered: Collection[str], folded: Collection[str]) -> None:
        """Say of every tensor of the model that no node computes what became of it."""
        moving: set[str] = set()
        for name, op in self.ops.items():
            sources = (value.get_node().get_friendly_name() for value in op.input_values())
            if op.get_type_name() == "Parameter" or not moving.isdisjoint(sources):
                moving.add(name)
            if name in covered or not self._computes(name):
                continue
            reason = _GONE if name in moving and name not in folded else _FOLDED
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


def _layout(text: str) -> str:
    """Name a layout that is not the plain one: "acdb" is "NHWC", "aBcd16b" is "NCHWc16"."""
    if text in _LAYOUTS:
        return _LAYOUTS[text]
    if text in {"undef", "any"} or (list(text) == sorted(text) and text.islower()):
        return ""
    for size in ("8", "16"):
        for plain, name in (("aBcd", "NCHWc"), ("aBcde", "NCDHWc")):
            if text == f"{plain}{size}b":
                return f"{name}{size}"
    return text
