"""What became of each tensor when the model was folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shipway.export.matching import Matches
from shipway.export.name_map import TensorEntry, ValueEntry
from shipway.export.sketch import GraphSketch, node_origin

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["map_tensors", "map_values"]

_NEUTRAL = frozenset(
    {
        "Cast",
        "CastLike",
        "Dropout",
        "Expand",
        "Flatten",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that can do nothing at all; only those make an alias of what they were given."""


@dataclass(frozen=True, slots=True)
class _Survivors:
    """Which names of the model before folding still mean the same afterwards.

    Args:
        values: New name of each node output that is left, by its old one.
        weights: New name of each weight that is untouched, by its old one.
        constants: New name of each node output that is now a weight.
        model: The model afterwards.
    """

    values: Mapping[str, str]
    weights: Mapping[str, str]
    constants: Mapping[str, str]
    model: ir.Model

    def find(self, name: str) -> str | None:
        """Return what a value is called now, None where it is gone."""
        return self.values.get(name) or self.weights.get(name)


def _survivors(sketch: GraphSketch, model: ir.Model, renamed: Mapping[str, str]) -> _Survivors:
    outputs = {value.name for node in model.graph for value in node.outputs}
    weights = model.graph.initializers
    # A name that now belongs to another value says nothing about the one that had it before.
    reused = set(renamed.values())
    now = {
        name: renamed.get(name, name)
        for name in (*sketch.operators, *sketch.initializers)
        if name in renamed or name not in reused
    }
    return _Survivors(
        values={
            name: new for name, new in now.items() if name in sketch.operators and new in outputs
        },
        weights={
            name: new
            for name, new in now.items()
            if name in sketch.initializers
            and new in weights
            and weights[new].const_value is sketch.initializers[name]
        },
        constants={
            name: new for name, new in now.items() if name in sketch.operators and new in weights
        },
        model=model,
    )


def map_tensors(
    entries: Sequence[TensorEntry],
    matches: Matches,
    sketch: GraphSketch,
    model: ir.Model,
    *,
    renamed: Mapping[str, str],
    inputs: Mapping[str, str],
) -> tuple[TensorEntry, ...]:
    """Say for every tensor of the program what became of it in the model.

    Args:
        entries: From `describe_tensors`, in the order of the program.
        matches: From `match_nodes`.
        sketch: The model before folding.
        model: The model, folded and named.
        renamed: From `set_interface`.
        inputs: ONNX input by program node.
    """
    follow = _Follower(sketch, _survivors(sketch, model, renamed), matches)
    mapped: dict[str, TensorEntry] = {}
    for entry in entries:
        if entry.status == "subgraph":
            mapped[entry.fx] = entry
        elif entry.op == "input":
            mapped[entry.fx] = replace(entry, status="kept", onnx=inputs[entry.fx], confirmed=True)
        elif (alias := matches.aliases.get(entry.fx)) is not None:
            same = mapped[alias]
            mapped[entry.fx] = replace(
                entry,
                status="eliminated",
                alias=same.onnx or same.alias,
                into=same.into,
                confirmed=True,
            )
        elif (value := matches.values.get(entry.fx)) is not None:
            confirmed = entry.fx in matches.confirmed
            mapped[entry.fx] = replace(follow(entry, value), confirmed=confirmed)
        else:
            unread = entry.fx in matches.unread
            mapped[entry.fx] = replace(entry, status="eliminated") if unread else entry
    return tuple(mapped.values())


class _Follower:
    """Follows one value at a time from before folding to afterwards."""

    def __init__(self, sketch: GraphSketch, left: _Survivors, matches: Matches) -> None:
        self._sketch = sketch
        self._left = left
        self._matches = matches
        self._constants = sketch.constants()
        self._stops = {*left.values, *left.weights}

    def __call__(self, entry: TensorEntry, value: str) -> TensorEntry:
        """Return the entry with the fate of `value`, its name before folding."""
        sketch, left = self._sketch, self._left
        if value not in sketch.operators and value not in sketch.initializers:
            # The exporter leaves out weights that nothing reads; a computed value it never loses.
            unread = entry.op in {"parameter", "buffer", "constant"}
            return replace(entry, status="eliminated") if unread else entry
        if (name := left.find(value)) is not None:
            return replace(entry, status="kept", onnx=name)
        if (name := left.constants.get(value) or self._twin(value)) is not None:
            folded = value in left.constants
            return replace(entry, status="folded" if folded else "eliminated", alias=name)
        into = tuple(
            name for item in sketch.descendants(value, self._stops) if (name := left.find(item))
        )
        if value in sketch.operators and value in self._constants:
            return replace(entry, status="folded", into=into)
        if (name := self._alias(value)) is not None:
            return replace(entry, status="eliminated", alias=name, into=into)
        return replace(entry, status="fused" if into else "eliminated", into=into)

    def _twin(self, value: str) -> str | None:
        """Return the weight that is read in place of one that is gone: equal weights are merged."""
        import numpy as np

        gone = self._sketch.initializers.get(value)
        if gone is None:
            return None
        readers = {self._left.values.get(name) for name in self._sketch.consumers.get(value, ())}
        for node in self._left.model.graph:
            if readers.isdisjoint(output.name for output in node.outputs):
                continue
            for weight in (item for item in node.inputs if item is not None):
                tensor = weight.const_value
                if tensor is None or (tensor.dtype, tensor.shape) != (gone.dtype, gone.shape):
                    continue
                if np.array_equal(tensor.numpy(), gone.numpy()):
                    return str(weight.name)
        return None

    def _alias(self, value: str) -> str | None:
        """Return what holds the same values, where the operator that is gone did nothing."""
        seen = self._matches.seen
        while self._sketch.operators.get(value) in _NEUTRAL:
            source = self._sketch.sources[value][0]
            mine, theirs = seen.get(value), seen.get(source)
            if mine is None or theirs is None or not mine.agrees(theirs):
                return None
            if (name := self._left.find(source)) is not None:
                return name
            if source in self._sketch.inputs:
                index = self._sketch.inputs.index(source)
                return str(self._left.model.graph.inputs[index].name)
            value = source
        return None


def map_values(
    model: ir.Model, sketch: GraphSketch, tensors: Sequence[TensorEntry], parents: Mapping[str, str]
) -> tuple[ValueEntry, ...]:
    """Return the values of the main graph that are no tensor of the program.

    Args:
        model: The model, folded and named.
        sketch: The model before folding.
        tensors: The tensors of the program.
        parents: Program node by decomposed node.
    """
    known = {entry.onnx for entry in tensors}
    known |= {value.name for value in model.graph.inputs}
    weights = [
        ValueEntry(str(name), "", parents.get(sketch.origins.get(str(name)) or _reader(value)))
        for name, value in model.graph.initializers.items()
        if name not in known
    ]
    computed = [
        ValueEntry(str(value.name), node.op_type, parents.get(node_origin(node)))
        for node in model.graph
        for value in node.outputs
        if value.name and value.name not in known
    ]
    return (*weights, *computed)


def _reader(value: ir.Value) -> str:
    """Return the decomposed node that reads a weight: folding makes weights without a record."""
    return next((origin for node in value.consumers() if (origin := node_origin(node))), "")
