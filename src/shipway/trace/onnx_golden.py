"""A model's own ONNX file as the golden: nothing optimised, run segment by segment.

Custom operators are their portable bodies, never their kernels. Local functions stay what they are:
a call of one is an operator, and what it computes inside is not shown.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.closing import Closing
from shipway.engines.base import EngineOptions
from shipway.engines.onnxfile import require_onnx
from shipway.engines.onnxruntime import OnnxRuntimeEngine
from shipway.engines.onnxruntime.perturbing import same_bits
from shipway.engines.onnxruntime.runtime import kernel_libraries, rooted
from shipway.engines.onnxruntime.segments import SegmentRunner, array_of, value_of
from shipway.engines.onnxruntime.taps import unreadable
from shipway.engines.tapping import DEFAULT_TAP_BYTES, Tap
from shipway.errors import TensorError, UsageError
from shipway.export.portable import PortableModel
from shipway.graph.outline import read_outline
from shipway.graph.segments import Limits, Segment, SegmentedGraph, infer_types
from shipway.tensors import Tensors, check_feeds
from shipway.trace.golden import ActualTensors, GoldenTensor
from shipway.trace.onnx_piece import OnnxPiece
from shipway.trace.onnx_places import Places

if TYPE_CHECKING:
    from onnxruntime import OrtValue

__all__ = ["OnnxGolden", "open_onnx_golden"]

_SHARES = 3  # the pure values, the teacher-forced ones, the engine's


def open_onnx_golden(
    model: PortableModel, options: EngineOptions, *, max_bytes: int = DEFAULT_TAP_BYTES
) -> OnnxGolden:
    """Open the .onnx file of a model as the golden.

    Args:
        model: The model; its name map, where there is one, says where its tensors come from.
        options: Threads are taken from it; everything is computed in the dtypes of the file.
        max_bytes: What a walk may hold beyond the model, where a single operator lets it.

    Raises:
        EngineMissing: onnxruntime is not installed.
        EngineError: A custom operator has no portable body.
        ModelError: There is no .onnx file, or it is not usable.
    """
    scratch = tempfile.TemporaryDirectory(prefix="shipway-golden-")
    try:
        plain = OnnxRuntimeEngine().lower(model, Path(scratch.name), inline=True)
        golden = OnnxGolden(model, require_onnx(plain, "The golden"), options, max_bytes)
    except BaseException:
        scratch.cleanup()
        raise
    golden.keep(scratch)
    return golden


class OnnxGolden(Closing):
    """The golden of an ONNX file; see `shipway.trace.golden.Golden`.

    Args:
        model: The model.
        path: Its .onnx file with standard operators only.
        options: Threads.
        max_bytes: What a walk may hold.
    """

    def __init__(
        self, model: PortableModel, path: Path, options: EngineOptions, max_bytes: int
    ) -> None:
        """Read the graph; nothing is run."""
        self.title = f"onnx ({(model.onnx or path).name}, not optimised)"
        self.inputs = model.inputs
        self._max_bytes = max_bytes
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        proto = rooted(read_outline(path), path.parent)
        self._graph = SegmentedGraph(proto)
        self._graph.learn_types(infer_types(proto))
        plain = replace(options, precision="f32", device="", optimize=False, extra={})
        self._runner = SegmentRunner(self._graph, kernel_libraries(proto), path, plain)
        self._path = path
        self._options = plain
        self.places = Places(self._graph, model.name_map)
        self._constant = [
            name
            for name in self._graph.outputs
            if name not in self._graph.maker and name not in self._graph.inputs
        ]
        self.taps = self._list_taps()
        self._taps = {tap.name: tap for tap in self.taps}
        self.outputs: Mapping[str, str] = {spec.name: spec.name for spec in model.outputs}

    def keep(self, scratch: tempfile.TemporaryDirectory[str]) -> None:
        """Take over the folder with the lowered model, to be removed with this."""
        self._scratch = scratch

    def _list_taps(self) -> tuple[Tap, ...]:
        graph, hidden = self._graph, unreadable(self._graph)
        shown = graph.varying() | set(graph.outputs)
        made = [
            (name, node.op_type)
            for node in graph.nodes
            for name in node.output
            if name in shown and name not in hidden
        ]
        inputs = [name for name in graph.inputs if name not in hidden]
        taps = [Tap(name, order, kind="input", names=(name,)) for order, name in enumerate(inputs)]
        for name, op in [*made, *((name, "") for name in self._constant)]:
            tap = Tap(name, len(taps), op, kind="output" if name in graph.outputs else "value")
            taps.append(self.places.placed(tap))
        return tuple(taps)

    def walk(
        self, feeds: Tensors, actual: ActualTensors, names: Collection[str] | None = None
    ) -> Iterator[GoldenTensor]:
        """Run once and yield tensors, each computed twice; see `Golden.walk`.

        Raises:
            TensorError: A feed, or a tensor of `actual`, does not fit.
            UsageError: There is no tensor of one of the names.
            EngineError: An operator failed.
        """
        check_feeds(self.inputs, feeds)
        strange = sorted(set(names or ()) - set(self._taps))
        if strange:
            raise UsageError(f"{self.title} has no tensor {', '.join(strange)}.")
        wanted = set(self._taps) if names is None else set(names)
        return self._walk(feeds, actual, wanted)

    def _walk(
        self, feeds: Tensors, actual: ActualTensors, wanted: Collection[str]
    ) -> Iterator[GoldenTensor]:
        state = _State({name: value_of(feeds[name]) for name in self._graph.inputs}, {})
        for name in self._graph.inputs:
            if name in wanted:
                value = np.array(feeds[name], order="C")
                yield GoldenTensor(self._taps[name], value, value)
        sizes = self._graph.sizes_bytes({name: value.shape for name, value in feeds.items()})
        limits = Limits.within(self._max_bytes // _SHARES, max(sizes.values(), default=0))
        for segment in self._graph.cut(sizes, limits):
            engine = self._ask(segment, actual)
            pure = self._run_pure(segment, state, {*wanted, *engine})
            held = {name: self._fit(name, engine.pop(name), pure[name]) for name in list(engine)}
            local = self._run_local(segment, state, held, pure)
            for name in segment.makes:
                if name in wanted:
                    yield self._tensor(name, pure, local, set(segment.keeps))
                pure.pop(name, None)
                local.pop(name, None)
            state.forget(self._graph.last_read, segment.end)
        for name in self._constant:
            if name in wanted:
                value = self.places.constant(name)
                yield GoldenTensor(self._taps[name], value, value)

    def _ask(self, segment: Segment, actual: ActualTensors) -> dict[str, NDArray[Any]]:
        asked = {name: actual(name) for name in segment.makes if name in self._taps}
        return {name: value for name, value in asked.items() if value is not None}

    def _run_pure(
        self, segment: Segment, state: _State, wanted: Collection[str]
    ) -> dict[str, OrtValue]:
        keeps = set(segment.keeps)
        outputs = [name for name in segment.makes if name in wanted or name in keeps]
        values = self._runner.run(segment, state.pure, outputs) if outputs else {}
        state.pure |= {name: values[name] for name in segment.keeps}
        return values

    def _run_local(
        self,
        segment: Segment,
        state: _State,
        held: Mapping[str, OrtValue],
        pure: Mapping[str, OrtValue],
    ) -> dict[str, OrtValue]:
        """Run with the engine's own tensors where it has any, unless they are the golden's.

        Args:
            segment: Which.
            state: What is alive; what the segment leaves behind is added.
            held: What the engine has of it. A tensor equal to the golden's is the same object.
            pure: What the golden computed.
        """
        differs = any(held[name] is not pure[name] for name in held)
        if not differs and not any(name in state.local for name in segment.reads):
            return {}
        live = {name: state.local.get(name, state.pure[name]) for name in segment.reads}
        local = self._runner.run(segment, live, list(pure), held) if pure else {}
        for name in segment.keeps:
            value = held.get(name, local[name])
            if value is not pure[name]:
                state.local[name] = value
        return local

    def _fit(self, name: str, engine: NDArray[Any], pure: OrtValue) -> OrtValue:
        """Return the engine's tensor as the golden has it; the golden's own where they are the same."""
        golden = array_of(pure)
        if engine.size != golden.size:
            raise TensorError(
                f"The engine's tensor for '{name}' has shape {list(engine.shape)}; "
                f"the golden's has {list(golden.shape)}.",
                hint="They are not the same tensor: match them by another name.",
            )
        cast = engine.reshape(golden.shape).astype(golden.dtype, copy=False)
        return pure if same_bits(golden, cast) else value_of(np.array(cast, order="C"))

    def _tensor(
        self,
        name: str,
        pure: Mapping[str, OrtValue],
        local: Mapping[str, OrtValue],
        shared: Collection[str],
    ) -> GoldenTensor:
        def own(value: OrtValue) -> NDArray[Any]:
            array = array_of(value)
            return array.copy() if name in shared else array

        value = own(pure[name])
        return GoldenTensor(self._taps[name], value, own(local[name]) if local else value)

    def piece(self, name: str, starts: Collection[str]) -> OnnxPiece:
        """Return the operators that lead to a tensor from others; see `Golden.piece`.

        Raises:
            UsageError: There is no such tensor, or no operator computes it.
        """
        if name not in self._graph.maker:
            raise UsageError(f"No operator of {self.title} computes '{name}'.")
        return OnnxPiece(self._graph, name, starts, self.places, self._path, self._options)

    def close(self) -> None:
        """Remove what was written."""
        if self._scratch is not None:
            self._scratch.cleanup()


class _State:
    """What is alive between segments: the pure values, and the local ones that differ from them."""

    def __init__(self, pure: dict[str, OrtValue], local: dict[str, OrtValue]) -> None:
        self.pure = pure
        self.local = local

    def forget(self, last_read: Mapping[str, int], end: int) -> None:
        """Let go of what nothing reads from here on."""
        for values in (self.pure, self.local):
            for name in [one for one in values if last_read.get(one, -1) < end]:
                del values[name]
