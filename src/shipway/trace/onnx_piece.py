"""The operators of an ONNX model between some tensors and one more: run, rounded, varied, saved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime.runtime import kernel_libraries
from shipway.engines.onnxruntime.segments import SegmentRunner, array_of, value_of
from shipway.errors import EngineError, ModelError, TensorError, UsageError
from shipway.files import atomic_path
from shipway.graph.segments import SegmentedGraph
from shipway.tensors import Tensors, dtype_named, dtype_of
from shipway.trace.golden import Operator, Variant
from shipway.trace.onnx_edits import Edit, Site
from shipway.trace.onnx_places import Places, weight_array
from shipway.trace.onnx_variants import edits_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["OnnxPiece"]

_ROUNDED = {"bf16": "bfloat16", "f16": "float16"}
_FLOAT, _DOUBLE = 1, 11
_MOST_SAVED_BYTES = 1_900_000_000
_OLDEST_IR_VERSION = 4
_SAME = 1e-3
"""What single precision may lose in one operator, generously: another function is further off."""


class OnnxPiece:
    """A piece of an ONNX golden; see `shipway.trace.golden.Piece`.

    Args:
        graph: The whole.
        name: The tensor at the end.
        starts: Tensors to start from where one is met.
        places: Where tensors come from.
        path: The file of the whole, for messages.
        options: How to run.
    """

    def __init__(
        self,
        graph: SegmentedGraph,
        name: str,
        starts: Collection[str],
        places: Places,
        path: Path,
        options: EngineOptions,
    ) -> None:
        """Walk back from the end."""
        self.output = name
        self._path = path
        self._options = options
        indices = _behind(graph, name, set(starts) - {name})
        self._model = _cut_out(graph, indices, name)
        self._part = SegmentedGraph(self._model)
        self._part.learn_types(graph.types)
        self.inputs = tuple(self._part.inputs)
        self.operators = tuple(_operator(graph.nodes[index], places) for index in indices)

    def run(self, feeds: Tensors, rounding: str = "f32") -> NDArray[Any]:
        """Compute the tensor at the end; see `Piece.run`.

        In "f64" an operator for which ONNX Runtime has no kernel in double precision is computed by
        onnx.reference, and in single precision where that fails or computes something else (1.23
        adds the bias of the first group to every group of a ConvTranspose).

        Raises:
            TensorError: An input is missing.
            UsageError: There is no such rounding.
            EngineError: An operator failed.
        """
        if rounding == "f32":
            return _run_whole(self._part, self._fit(feeds), self._path, self._options)
        if rounding == "f64":
            # An engine may keep more digits of a value than the model does: here they count.
            wide = self._fit(feeds, np.dtype(np.float64))
            return _Stepper(self._part, self._path, self._options, "float64").run(wide)
        if rounding in _ROUNDED:
            stepper = _Stepper(self._part, self._path, self._options, _ROUNDED[rounding])
            return stepper.run(self._fit(feeds))
        raise UsageError(f"Unknown rounding '{rounding}'.", hint="One of: f32, f64, bf16, f16.")

    def _fit(self, feeds: Tensors, floats: np.dtype[Any] | None = None) -> dict[str, NDArray[Any]]:
        """Return the inputs in the dtypes the operators take; floats in `floats`, if it is given."""
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise TensorError(f"The piece needs {', '.join(missing)}.")
        found = {}
        for name in self.inputs:
            element = self._part.element_type(name)
            value = np.asarray(feeds[name], order="C")
            dtype = dtype_of(element) if element else None
            if floats is not None and (dtype or dtype_of(value.dtype)).is_float:
                value = value.astype(floats)
            elif dtype is not None:
                value = value.astype(dtype.numpy, copy=False)
            elif value.dtype in {dtype_named("bfloat16").numpy, np.dtype(np.float16)}:
                value = value.astype(np.float32)
            found[name] = value
        return found

    def variants(self) -> Iterator[Variant]:
        """Yield what the usual mistakes with these operators would give; see `Piece.variants`."""
        constant = _constant_reader(self._part)
        for index, node in enumerate(self._part.nodes):
            for edit in edits_of(Site(node, self._part, constant)):
                yield Variant(edit.cause, edit.title, node.output[0], self._varied(index, edit))

    def _varied(self, index: int, edit: Edit) -> Any:
        def run(feeds: Tensors) -> NDArray[Any]:
            from onnx import ModelProto

            model = ModelProto()
            model.CopyFrom(self._model)
            del model.graph.node[:]
            model.graph.node.extend(self._part.nodes)
            edit.apply(model.graph, model.graph.node[index])
            return _run_whole(SegmentedGraph(model), self._fit(feeds), self._path, self._options)

        return run

    def save(self, folder: Path) -> Path:
        """Write the piece as piece.onnx, weights inside, and return its path.

        Raises:
            ModelError: Its weights exceed the 2 GB an ONNX file may have.
            OutputError: The folder cannot be written to.
        """
        from onnx import ModelProto, numpy_helper

        weights = sum(_weight_bytes(one) for one in self._model.graph.initializer)
        if weights > _MOST_SAVED_BYTES:
            raise ModelError(
                f"The piece that leads to '{self.output}' has {weights / 1e9:.1f} GB of weights, "
                "and an ONNX file holds 2."
            )
        model = ModelProto()
        model.CopyFrom(self._model)
        for tensor in model.graph.initializer:
            if tensor.external_data:
                array = weight_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for value in (*model.graph.input, *model.graph.output):
            known = self._part.types.get(value.name)
            if known is not None:
                value.type.CopyFrom(known)
            elif not value.type.tensor_type.elem_type:
                value.type.tensor_type.elem_type = _FLOAT  # nothing says it; most tensors are
        path = folder / "piece.onnx"
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
        return path


def _behind(graph: SegmentedGraph, name: str, starts: Collection[str]) -> list[int]:
    """Return the nodes between some tensors and one, in the order of execution."""
    found: set[int] = set()
    pending = [name]
    while pending:
        index = graph.maker[pending.pop()]
        if index not in found:
            found.add(index)
            pending += [
                read for read in graph.reads[index] if read in graph.maker and read not in starts
            ]
    return sorted(found)


def _cut_out(graph: SegmentedGraph, indices: list[int], name: str) -> ModelProto:
    from onnx import ModelProto

    model = ModelProto(ir_version=max(graph.proto.ir_version, _OLDEST_IR_VERSION))
    model.opset_import.extend(graph.proto.opset_import)
    model.functions.extend(graph.proto.functions)
    model.graph.name = "piece"
    model.graph.node.extend(graph.nodes[index] for index in indices)
    made = {one for index in indices for one in graph.nodes[index].output}
    reads = dict.fromkeys(read for index in indices for read in graph.reads[index])
    for read in reads:
        if read in graph.weights:
            model.graph.initializer.append(graph.weights[read])
        elif read not in made:
            value = model.graph.input.add(name=read)
            if read in graph.types:
                value.type.CopyFrom(graph.types[read])
    model.graph.output.add(name=name)
    if name in graph.types:
        model.graph.output[0].type.CopyFrom(graph.types[name])
    return model


def _operator(node: NodeProto, places: Places) -> Operator:
    from shipway.engines.tapping import Tap

    tap = places.placed(Tap(node.output[0], 0))
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    inputs = tuple(name for name in node.input if name)
    return Operator(node.output[0], op, inputs, tap.module, tap.source, tap.code)


def _run_whole(
    graph: SegmentedGraph, feeds: Tensors, path: Path, options: EngineOptions
) -> NDArray[Any]:
    runner = SegmentRunner(graph, kernel_libraries(graph.proto), path, options)
    live = {name: value_of(feeds[name]) for name in graph.inputs}
    (output,) = graph.outputs
    return array_of(runner.run(graph.segment(0, len(graph.nodes)), live, [output])[output])


def _weight_bytes(tensor: Any) -> int:
    length = next((one.value for one in tensor.external_data if one.key == "length"), None)
    return int(tensor.ByteSize() if length is None else length)


def _constant_reader(graph: SegmentedGraph) -> Any:
    """Return what reads a constant by name: a weight, or what a Constant node holds; else None."""
    from onnx import numpy_helper

    nodes = {node.output[0]: node for node in graph.nodes if node.op_type == "Constant"}

    def read(name: str) -> NDArray[Any] | None:
        if name in graph.weights:
            return weight_array(graph.weights[name])
        for attribute in nodes[name].attribute if name in nodes else ():
            if attribute.HasField("t"):
                return np.asarray(numpy_helper.to_array(attribute.t))
            if attribute.name == "value_float":
                return np.array(attribute.f, np.float32)
            if attribute.name == "value_int":
                return np.array(attribute.i, np.int64)
        return None

    return read


class _Stepper:
    """Runs a graph operator by operator, every float rounded to a dtype or computed in it.

    Args:
        graph: The piece.
        path: For messages.
        options: How to run.
        dtype: "float64" to compute in; "bfloat16" or "float16" to round to, and compute in float32.
    """

    def __init__(
        self, graph: SegmentedGraph, path: Path, options: EngineOptions, dtype: str
    ) -> None:
        self._graph = graph
        self._path = path
        self._options = options
        self._wide = np.dtype(np.float64 if dtype == "float64" else np.float32)
        self._narrow = dtype_named(dtype).numpy

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the output."""
        graph = self._graph
        values = {name: self._round(value) for name, value in feeds.items()}
        for index, node in enumerate(graph.nodes):
            reads = {name: self._value(name, values) for name in graph.reads[index]}
            outputs = self._step(self._adapted(node), reads)
            values |= {name: self._round(value) for name, value in outputs.items()}
            for name in [one for one in values if graph.last_read.get(one, -1) <= index]:
                del values[name]
        return values[graph.outputs[0]]

    def _value(self, name: str, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        if name in values:
            return values[name]
        return self._round(weight_array(self._graph.weights[name]))

    def _round(self, value: NDArray[Any]) -> NDArray[Any]:
        if not dtype_of(value.dtype).is_float:
            return value
        with np.errstate(over="ignore"):
            return value.astype(self._narrow).astype(self._wide)

    def _adapted(self, node: NodeProto) -> NodeProto:
        """Return a node that works in the wide dtype where its attributes name another."""
        if node.op_type not in {"Cast", "CastLike"}:
            return node
        copy = type(node)()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            if attribute.name == "to" and dtype_of(attribute.i).is_float:
                attribute.i = _DOUBLE if self._wide == np.float64 else _FLOAT
        return copy

    def _step(self, node: NodeProto, reads: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            return self._step_in_runtime(node, reads)
        except EngineError:
            if self._wide != np.float64:
                raise
        single = {
            name: value.astype(np.float32) if value.dtype == np.float64 else value
            for name, value in reads.items()
        }
        known = self._step_in_runtime(node, single)
        try:
            found = self._step_in_reference(node, reads)
        except Exception:  # noqa: BLE001 -- onnx.reference raises whatever its numpy code does
            return known
        return found if _is_the_same(found, known) else known

    def _single(self, node: NodeProto, reads: Mapping[str, NDArray[Any]]) -> ModelProto:
        from onnx import ModelProto

        proto = self._graph.proto
        model = ModelProto(ir_version=proto.ir_version)
        model.opset_import.extend(proto.opset_import)
        model.functions.extend(proto.functions)
        model.graph.name = "operator"
        model.graph.node.append(node)
        for name, value in reads.items():
            one = model.graph.input.add(name=name)
            one.type.tensor_type.elem_type = dtype_of(value.dtype).onnx
            one.type.tensor_type.shape.SetInParent()
            for size in value.shape:
                one.type.tensor_type.shape.dim.add(dim_value=size)
        for name in filter(None, node.output):
            model.graph.output.add(name=name)
        return model

    def _step_in_runtime(
        self, node: NodeProto, reads: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        graph = SegmentedGraph(self._single(node, reads))
        runner = SegmentRunner(graph, kernel_libraries(graph.proto), self._path, self._options)
        live = {name: value_of(value) for name, value in reads.items()}
        values = runner.run(graph.segment(0, 1), live, graph.outputs)
        return {name: array_of(value) for name, value in values.items()}

    def _step_in_reference(
        self, node: NodeProto, reads: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        from onnx.reference import ReferenceEvaluator

        model = self._single(node, reads)
        names = [one.name for one in model.graph.output]
        values = ReferenceEvaluator(model).run(names, dict(reads))
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def _is_the_same(found: Mapping[str, NDArray[Any]], known: Mapping[str, NDArray[Any]]) -> bool:
    """Whether two results differ by no more than single precision may."""
    with np.errstate(all="ignore"):
        return all(
            found[name].shape == value.shape
            and np.allclose(
                found[name],
                value,
                rtol=_SAME,
                atol=_SAME * float(np.max(np.abs(value), initial=0, where=np.isfinite(value))),
                equal_nan=True,
            )
            for name, value in known.items()
        )
