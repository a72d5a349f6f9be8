"""Runs a model segment by segment: the graph as ONNX Runtime resolved it, nothing optimised again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime.runtime import (
    NOISE,
    TITLE,
    kernel_libraries,
    open_session,
    rooted,
    runtime,
)
from shipway.engines.requests import engine_errors
from shipway.errors import EngineError
from shipway.graph.outline import parse, read_outline
from shipway.graph.segments import Segment, SegmentedGraph
from shipway.ops.kernel_library import KernelLibrary
from shipway.tensors import DTYPES, dtype_named, dtype_of

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession, OrtValue

__all__ = [
    "READABLE_TYPES",
    "Resolved",
    "SegmentRunner",
    "array_of",
    "resolve",
    "value_of",
]

READABLE_TYPES = frozenset(dtype.onnx for dtype in DTYPES)
"""ONNX element types that can be handed out."""

_BFLOAT16 = 16
_SMALL_FILE_BYTES = 4 << 20
_NO_SPINNING = {"session.intra_op.allow_spinning": "0"}  # threads would wait for a second run
_FILE = "resolved.onnx"
_DATA = "resolved.data"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model as ONNX Runtime runs it.

    Args:
        original: The model it was given, large weights left in their files.
        graph: What ONNX Runtime made of it: optimised or not, every value typed.
        session: The session that did so, ready to run.
        libraries: Those with the kernels of its custom operators.
    """

    original: ModelProto
    graph: SegmentedGraph
    session: InferenceSession
    libraries: tuple[KernelLibrary, ...]


def resolve(path: Path, original: ModelProto, options: EngineOptions, folder: Path) -> Resolved:
    """Start a session on a model, and let ONNX Runtime write down the graph it runs.

    The weights it leaves alone stay where they are: the graph refers to the model's own files.

    Args:
        path: The .onnx file.
        original: What `read_outline` read of it; the places of its weights are changed.
        options: What the user asks for.
        folder: Where the graph goes, and the weights that ONNX Runtime changes; it must stay.

    Raises:
        EngineError: ONNX Runtime refuses the model or an option.
    """
    libraries = kernel_libraries(original)
    rooted(original, path.parent)
    model = original.SerializeToString()

    def open_writing(settings: Mapping[str, str]) -> InferenceSession:
        return open_session(
            path,
            options,
            libraries,
            model=model,
            entries=settings,
            adjust=lambda session: setattr(
                session, "optimized_model_filepath", str(folder / _FILE)
            ),
        )

    try:
        session = open_writing({})
    except EngineError as error:
        if "2GB" not in str(error) and "serializ" not in str(error).lower():
            raise
        session = open_writing({"session.optimized_model_external_initializers_file_name": _DATA})
        return Resolved(original, _read(folder / _FILE, external=folder), session, libraries)
    return Resolved(original, _read(folder / _FILE), session, libraries)


def _read(path: Path, *, external: Path | None = None) -> SegmentedGraph:
    """Read what ONNX Runtime wrote: weights inside the file, and those at places from the root on."""
    is_small = path.stat().st_size <= _SMALL_FILE_BYTES  # then nothing is gained by an outline
    proto = parse(path.read_bytes()) if is_small else read_outline(path)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value in {path.name, _DATA}:
                place = (external or path.parent) / entry.value
                entry.value = str(place.absolute().relative_to(place.anchor))
    return SegmentedGraph(proto)


class SegmentRunner:
    """Runs segments of a graph, each in a session of its own that is gone afterwards.

    Args:
        graph: The graph.
        libraries: Those with the kernels of its custom operators.
        path: The model's file, for messages.
        options: As for the whole model.
    """

    def __init__(
        self,
        graph: SegmentedGraph,
        libraries: Sequence[KernelLibrary],
        path: Path,
        options: EngineOptions,
    ) -> None:
        """Keep what every session needs."""
        self._graph = graph
        self._libraries = tuple(libraries)
        self._path = path
        self._options = replace(options, optimize=False)

    def run(
        self,
        segment: Segment,
        live: Mapping[str, OrtValue],
        outputs: Sequence[str],
        forced: Mapping[str, OrtValue] | None = None,
    ) -> dict[str, OrtValue]:
        """Run a segment.

        Args:
            segment: Which.
            live: Everything it reads, and perhaps more.
            outputs: What to return.
            forced: Values of the segment that its nodes shall read in place of their own.

        Raises:
            EngineError: A node failed.
        """
        names = {name: _forced_name(name) for name in forced or {}}
        feeds = {name: live[name] for name in segment.reads}
        feeds |= {names[name]: value for name, value in (forced or {}).items()}
        types = {name: _type_of(value) for name, value in feeds.items()}
        model = self._graph.build(segment, types, outputs, names)
        session = self._open(model)
        taken = {one.name for one in session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in taken}
        with engine_errors(f"{TITLE} failed while running", NOISE):
            values = session.run_with_ort_values(list(outputs), feeds)
        return dict(zip(outputs, values, strict=True))

    def _open(self, model: bytes) -> InferenceSession:
        return open_session(
            self._path,
            self._options,
            self._libraries,
            model=model,
            entries=_NO_SPINNING,
            adjust=_run_once,
        )


def _run_once(settings: Any) -> None:
    # An arena keeps memory for the next run, which never comes.
    settings.enable_cpu_mem_arena = False
    settings.enable_mem_pattern = False


def _forced_name(name: str) -> str:
    return f"{name}\x1factual"


def _type_of(value: OrtValue) -> tuple[int, tuple[int, ...]]:
    return value.element_type(), tuple(value.shape())


class _Memory:
    """The memory of an OrtValue, for numpy: it lives as long as an array on it does."""

    def __init__(self, value: OrtValue, typestr: str) -> None:
        self._value = value
        self.__array_interface__ = {
            "data": (value.data_ptr(), False),
            "shape": tuple(value.shape()),
            "typestr": typestr,
            "version": 3,
        }


def array_of(value: OrtValue) -> NDArray[Any]:
    """Return a tensor of ONNX Runtime as an array on the same memory, where that is the CPU's."""
    dtype = dtype_of(value.element_type()).numpy
    if value.device_name() != "cpu":
        return np.asarray(value.numpy())
    if 0 in value.shape():
        return np.empty(value.shape(), dtype)
    plain = np.dtype(np.uint16) if value.element_type() == _BFLOAT16 else dtype
    return np.asarray(_Memory(value, plain.str)).view(dtype)


def value_of(array: NDArray[Any]) -> OrtValue:
    """Return an array as a tensor of ONNX Runtime, on the same memory."""
    values = runtime().OrtValue
    array = np.asarray(array, order="C")
    if array.dtype == dtype_named("bfloat16").numpy:
        return values.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BFLOAT16)
    return values.ortvalue_from_numpy(array)
