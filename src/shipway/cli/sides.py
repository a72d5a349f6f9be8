"""The two sides of a comparison, whatever the user names: models, traces, saved tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.cli.flags import EngineFlags, model_request, split_target
from shipway.engines.opening import OpenedModel, open_model, portable_model
from shipway.engines.target import Target
from shipway.errors import ModelError, TensorError
from shipway.export.portable import PortableModel
from shipway.files import file_sha256
from shipway.progress import Progress
from shipway.source.loading import SourceRequest
from shipway.tensorfiles import file_name, read_bin, read_tensors
from shipway.tensors import Tensors, TensorSpec
from shipway.trace.reading import MANIFEST, Trace, open_trace

__all__ = ["Side", "open_side", "portable_of"]

_SAVED = frozenset({".npy", ".npz", ".json", ".bin"})


@dataclass(frozen=True, slots=True)
class Side:
    """One side: an open model, a trace, or tensors that were saved.

    Args:
        label: What to call it.
        precision: What it computed in.
        request: The model; None for a trace or tensors.
        target: Its engine, where the user named one.
        opened: The open model.
        saved: The tensors.
        trace: The trace.
    """

    label: str
    precision: str
    request: SourceRequest | None = None
    target: Target | None = None
    opened: OpenedModel | None = None
    saved: Tensors | None = None
    trace: Trace | None = None

    @property
    def is_open_model(self) -> bool:
        """Whether it can be run."""
        return self.opened is not None


def open_side(
    text: str,
    specs: Sequence[TensorSpec],
    flags: EngineFlags,
    progress: Progress,
    stack: ExitStack,
    other: str = "",
) -> Side:
    """Open what the user names.

    Args:
        text: A compiled artifact, a model with or without "@engine", a trace, another tool's dump,
            a tensor file, or a folder of tensor files.
        specs: Name, dtype and shape of .bin files.
        flags: What is asked of an engine.
        progress: Told of the slow steps.
        stack: What is opened is closed with it.
        other: What the user names for the other side: where that is an ONNX model, it tells which
            of its values a dump of nodes holds.

    Raises:
        ShipwayError: It is none of these, or does not open.
    """
    path = Path(text)
    if path.name == MANIFEST or (path / MANIFEST).is_file():
        return _trace_side(text, open_trace(path))
    if path.is_dir() and (dump := _foreign_dump(path, _onnx_file(other), stack)) is not None:
        return _trace_side(text, dump)
    if path.is_dir() or path.suffix.lower() in _SAVED:
        return Side(text, "f32", saved=_read_saved(path, specs))
    reference, target = split_target(text)
    request = model_request(reference)
    opened = stack.enter_context(open_model(request, target, flags.options(), progress=progress))
    return Side(str(opened.target), opened.target.precision, request, target, opened)


def _trace_side(text: str, trace: Trace) -> Side:
    label = f"{trace.header.engine} ({text})"
    return Side(label, trace.header.precision or "f32", trace=trace)


def _onnx_file(text: str) -> Path | None:
    path = Path(split_target(text)[0])
    return path if path.suffix.lower() == ".onnx" and path.is_file() else None


def _foreign_dump(path: Path, model: Path | None, stack: ExitStack) -> Trace | None:
    """Return another tool's dump as a trace; None for a plain folder of tensor files."""
    from shipway.trace.importing.registry import detect_format, import_dump

    if detect_format(path) in {None, "plain", "polygraphy"}:
        return None
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-import-"))
    return import_dump(path, Path(scratch) / "trace", model=model)


def _read_saved(path: Path, specs: Sequence[TensorSpec]) -> Tensors:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix.lower() in _SAVED]
    if not files:
        raise TensorError(f"There is no tensor file in {path}.")
    tensors: dict[str, NDArray[Any]] = {}
    for file in files:
        wanted = [one for one in specs if file_name(one.name) == file.stem] or list(specs)
        if file.suffix.lower() == ".bin" and len(wanted) == 1:
            found: Tensors = {wanted[0].name: read_bin(file, wanted[0])}
        else:
            found = read_tensors(file, wanted if file.suffix.lower() == ".bin" else ())
        tensors |= found
    return tensors


def portable_of(side: Side, folder: Path) -> PortableModel | None:
    """Return the portable model behind a side: of an artifact, what it was compiled from.

    None where there is none: a trace, tensors, or an artifact whose source is gone or changed.
    """
    if side.request is None or side.opened is None:
        return None
    if not _is_compiled(side):
        return portable_model(side.request, folder)
    made = side.opened.artifact.made
    source = Path(str(made.get("source", "")))
    try:
        if file_sha256(source) != made.get("source_sha256"):
            return None
        return portable_model(SourceRequest(str(source)), folder)
    except ModelError:
        return None


def _is_compiled(side: Side) -> bool:
    """Whether the user named an artifact, not a model that was compiled for this comparison."""
    return (
        side.request is not None
        and side.opened is not None
        and side.opened.artifact.path == Path(side.request.reference)
    )
