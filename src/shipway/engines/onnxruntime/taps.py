"""Reads every tensor of the graph that ONNX Runtime optimised, while it computes what it always does.

Adding outputs to a model before it is optimised makes another model of it. Here it is optimised as
always; what came out is run once more, segment by segment, with nothing left to optimise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.closing import Closing
from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime.layout import (
    blocked_names,
    blocked_values,
    plain_layout,
    width,
)
from shipway.engines.onnxruntime.origins import Origins
from shipway.engines.onnxruntime.perturbing import explain
from shipway.engines.onnxruntime.runtime import NOISE, TITLE
from shipway.engines.onnxruntime.segments import (
    READABLE_TYPES,
    SegmentRunner,
    array_of,
    resolve,
    value_of,
)
from shipway.engines.requests import engine_errors
from shipway.engines.tapping import Tap, TapCheck, TappedTensor
from shipway.errors import EngineError, UsageError
from shipway.graph.segments import Limits, Segment, SegmentedGraph, infer_types, inner_names
from shipway.tensors import Tensors, check_feeds

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import OrtValue

__all__ = ["OnnxRuntimeTaps", "taps_of", "unreadable"]


class OnnxRuntimeTaps(Closing):
    """An artifact of ONNX Runtime, loaded so that its tensors can be read.

    Args:
        artifact: What `compile` made; it must not change while this is open.
        outline: What `read_outline` read of it.
        options: As for `load`.
        describe: Says what is in force in a session.
        max_bytes: What a run may hold beyond the model.
    """

    def __init__(
        self,
        artifact: Artifact,
        outline: ModelProto,
        options: EngineOptions,
        describe: Callable[[Any], Mapping[str, str]],
        max_bytes: int,
    ) -> None:
        """Optimise the model and see what there is to read."""
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs
        self.check: TapCheck | None = None
        self._max_bytes = max_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="shipway-taps-")
        try:
            resolved = resolve(artifact.path, outline, options, Path(self._folder.name))
        except BaseException:
            self._folder.cleanup()
            raise
        self._session: Any = resolved.session
        self.effective: Mapping[str, str] = dict(describe(resolved.session))
        self._runner = SegmentRunner(resolved.graph, resolved.libraries, artifact.path, options)
        self._graph = resolved.graph
        blocked = blocked_names(resolved.graph)
        known = infer_types(resolved.original)
        origins = Origins(SegmentedGraph(resolved.original), resolved.graph, blocked, known)
        names = {name: origins.names_of(name) for name in self._graph.maker}
        self._graph.learn_types(
            {one: known[of[0]] for one, of in names.items() if of and of[0] in known}
        )
        weights = _weight_sizes(resolved.original)
        self._blocked = blocked_values(
            resolved.graph, blocked, lambda name: _rows_behind(name, origins, weights)
        )
        self._measured = {one.like for one in self._blocked.values()} - {""}
        perms = {name: origins.perm_of(name) for name in self._graph.maker}
        self._perms = {name: perm for name, perm in perms.items() if perm is not None}
        layouts = {name: _transposed(perm) for name, perm in self._perms.items()}
        layouts |= dict.fromkeys(self._blocked, f"NCHWc{width()}" if self._blocked else "")
        self.taps = taps_of(self._graph, origins=origins, layouts=layouts)
        self.untapped: Mapping[str, str] = unreadable(self._graph)

    def stream(
        self, feeds: Tensors, names: Collection[str] | None = None
    ) -> Iterator[TappedTensor]:
        """Run and yield the tensors in the order of execution; see `TapSession.stream`.

        Raises:
            TensorError: A feed is missing, unknown, or has the wrong dtype or shape.
            UsageError: There is no tap of one of the names.
            EngineError: ONNX Runtime failed, or this is closed.
        """
        if self._session is None:
            raise EngineError("These taps are closed.", hint="Open them again.")
        check_feeds(self.inputs, feeds)
        wanted = {tap.name: tap for tap in self.taps}
        if names is not None:
            strange = sorted(set(names) - set(wanted))
            if strange:
                raise UsageError(
                    f"{TITLE} has no tensor {', '.join(strange)} here.",
                    hint="What it optimised away has no tensor; `taps` lists what there is.",
                )
            wanted = {name: wanted[name] for name in wanted if name in set(names)}
        return self._stream(feeds, wanted)

    def _stream(self, feeds: Tensors, wanted: Mapping[str, Tap]) -> Iterator[TappedTensor]:
        self.check = None
        expected = self._run_untapped(feeds)
        live = {name: value_of(feeds[name]) for name in self._graph.inputs}
        for name in self._graph.inputs:
            if name in wanted:
                yield TappedTensor(wanted[name], np.array(feeds[name], order="C"))
        segments = self._segments(feeds)
        shapes = {name: value.shape for name, value in feeds.items()}
        for segment in segments:
            outputs = self._outputs(segment, wanted)
            values = self._runner.run(segment, live, outputs) if outputs else {}
            live |= {name: values[name] for name in segment.keeps}
            shapes |= {name: tuple(values[name].shape()) for name in self._measured & set(values)}
            for name in outputs:
                value = values.pop(name)
                if name in wanted:
                    array = self._plain(name, value, shapes, is_shared=name in live)
                    del value
                    yield TappedTensor(wanted[name], array)
                    del array
            _forget(live, self._graph, segment)
        yield from self._constants(expected, wanted)
        self.check = explain(
            self._graph, self._runner, segments, feeds, expected, live, self._run_untapped
        )

    def _segments(self, feeds: Tensors) -> list[Segment]:
        sizes = self._graph.sizes_bytes({name: value.shape for name, value in feeds.items()})
        largest = max(sizes.values(), default=0)
        return self._graph.cut(sizes, Limits.within(self._max_bytes, largest))

    def _outputs(self, segment: Segment, wanted: Collection[str]) -> list[str]:
        needed = {*segment.keeps, *self._measured}
        return [name for name in segment.makes if name in wanted or name in needed]

    def _run_untapped(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        names = list(self._graph.outputs)
        arrays = {name: np.asarray(value, order="C") for name, value in feeds.items()}
        with engine_errors(f"{TITLE} failed while running", NOISE):
            return dict(zip(names, self._session.run(names, arrays), strict=True))

    def _plain(
        self, name: str, value: OrtValue, shapes: Mapping[str, tuple[int, ...]], *, is_shared: bool
    ) -> NDArray[Any]:
        array = array_of(value)
        if name in self._blocked:
            array = plain_layout(array, self._blocked[name], shapes.__getitem__)
            is_shared = False
        perm = self._perms.get(name, ())
        if self._sizes_only(name):
            return array[list(perm)]
        if len(perm) == array.ndim > 0:
            return np.array(array.transpose(perm), order="C")
        return array.copy() if is_shared else array  # it becomes the receiver's, to change at will

    def _sizes_only(self, name: str) -> bool:
        """Whether a value is the shape of something that lies transposed."""
        is_shape = self._graph.nodes[self._graph.maker[name]].op_type == "Shape"
        return is_shape and name in self._perms

    def _constants(self, expected: Tensors, wanted: Mapping[str, Tap]) -> Iterator[TappedTensor]:
        """Yield the outputs that no node computes any more."""
        for name in self._graph.outputs:
            made = name in self._graph.maker or name in self._graph.inputs
            if name in wanted and not made:
                yield TappedTensor(wanted[name], expected[name])

    def close(self) -> None:
        """Give the session and the optimised file back."""
        self._session = None
        self._folder.cleanup()


def _forget(live: dict[str, Any], graph: SegmentedGraph, segment: Segment) -> None:
    for name in [one for one in live if graph.last_read.get(one, -1) < segment.end]:
        del live[name]


def _transposed(perm: Sequence[int]) -> str:
    """Say how a value lies that is handed out transposed by `perm`."""
    return f"transposed by {[list(perm).index(axis) for axis in range(len(perm))]}"


def _weight_sizes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the constants of a model, those in nodes too."""
    found = {one.name: tuple(one.dims) for one in model.graph.initializer}
    for node in model.graph.node:
        tensor = next((one.t for one in node.attribute if one.HasField("t")), None)
        if node.op_type == "Constant" and tensor is not None:
            found[node.output[0]] = tuple(tensor.dims)
    return found


def _rows_behind(name: str, origins: Origins, weights: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the channels that the nearest convolution of the original before a value makes."""
    for node in origins.nodes_behind(name):
        if node.op_type in {"Conv", "BatchNormalization"} and weights.get(node.input[1]):
            return weights[node.input[1]][0]
    return None


def taps_of(
    graph: SegmentedGraph,
    *,
    origins: Origins | None = None,
    layouts: Mapping[str, str] | None = None,
) -> tuple[Tap, ...]:
    """Return everything of a graph that can be read: inputs, then what its nodes compute, in order.

    Args:
        graph: As ONNX Runtime wrote it.
        origins: Knows the names of the model it was given; None: they are the same.
        layouts: How values are stored that are not as they are handed out.
    """
    outputs, found = set(graph.outputs), list[Tap]()
    for name in graph.inputs:
        if _why_unreadable(graph, name) is None:
            found.append(Tap(name, len(found), kind="input", names=(name,)))
    constants = [name for name in graph.outputs if name not in graph.maker]
    made = [(name, node.op_type) for node in graph.nodes for name in node.output if name]
    for name, op in [*made, *((name, "") for name in constants if name not in graph.inputs)]:
        if _why_unreadable(graph, name) is None:
            tap = Tap(
                name,
                len(found),
                op,
                kind="output" if name in outputs else "value",
                names=(name,) if origins is None else origins.names_of(name),
                covers=() if origins is None else origins.covers(name),
                layout=(layouts or {}).get(name, ""),
            )
            found.append(tap)
    return tuple(found)


def unreadable(graph: SegmentedGraph) -> dict[str, str]:
    """Return what a graph computes and cannot be read, with the reason."""
    found = {}
    for name in (*graph.inputs, *graph.maker):
        why = _why_unreadable(graph, name)
        if why is not None:
            found[name] = why
    for node in graph.nodes:
        why = f"it is computed inside a body of {node.op_type} '{node.name or node.output[0]}'"
        found |= dict.fromkeys(inner_names(node), why)
    return found


def _why_unreadable(graph: SegmentedGraph, name: str) -> str | None:
    kind = graph.types.get(name)
    if kind is None or kind.WhichOneof("value") is None:
        return None if graph.is_plain(name) else "it is no tensor"
    if not kind.HasField("tensor_type"):
        return f"it is no tensor but a {str(kind.WhichOneof('value')).removesuffix('_type')}"
    element = kind.tensor_type.elem_type
    if element and element not in READABLE_TYPES:
        from onnx import TensorProto

        return f"numpy has no type for {TensorProto.DataType.Name(element)}"
    return None
