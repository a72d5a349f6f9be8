"""Read what the user hands in and return a torch module, an exported program or an ONNX file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shipway.errors import UsageError
from shipway.source.arguments import arguments_to_json
from shipway.source.binding import bind_inputs, check_names
from shipway.source.factories import make_module
from shipway.source.graphs import read_graph_file
from shipway.source.imports import workspace
from shipway.source.modelfiles import find_model_file
from shipway.source.operators import load_operator_files
from shipway.source.pickles import load_pickled_module
from shipway.source.programs import load_program, program_inputs
from shipway.source.references import Reference, parse_reference
from shipway.source.weights import load_weights
from shipway.tensors import TensorSpec

__all__ = ["LoadedSource", "SourceRequest", "load_source"]

_SEED = 0


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What the user asks for.

    Args:
        reference: "file.py:name", "package.module:name", "x.pt2", "x.onnx", or "x.pth" / "x.pt" for
            a pickled module.
        arguments: Keyword arguments for a module class or factory.
        weights: State dict for the module.
        inputs: Input specs: needed later for a module, checked against the file otherwise.
        allow_pickle: Whether pickled code in the file may run.
        ops: Files that define operators the model calls.
    """

    reference: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    inputs: tuple[TensorSpec, ...] = ()
    allow_pickle: bool = False
    ops: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data in a stable order: equal requests give equal text."""
        return {
            "reference": self.reference,
            "arguments": arguments_to_json(self.arguments),
            "weights": None if self.weights is None else str(self.weights),
            "inputs": [spec.to_json() for spec in self.inputs],
            "allow_pickle": self.allow_pickle,
            "ops": [str(path) for path in self.ops],
        }


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """A model that is ready for export.

    Args:
        kind: Which of the last three fields holds it.
        reference: As the user wrote it.
        inputs: Input specs: the user's for a module; the file's otherwise, with the user's sizes.
        files: Every file the result depends on, absolute: Python code of the user's, weights, model
            file, external data. Installed packages are not among them.
        module: The torch.nn.Module, in eval mode.
        program: The torch.export.ExportedProgram.
        onnx: The .onnx file.
    """

    kind: Literal["module", "exported-program", "onnx"]
    reference: str
    inputs: tuple[TensorSpec, ...]
    files: tuple[Path, ...]
    module: Any = None
    program: Any = None
    onnx: Path | None = None


def load_source(request: SourceRequest) -> LoadedSource:
    """Load the model a request names.

    Python code of the user's is executed, with its folder (or the current one) importable. A module
    without weights is initialized from seed 0, so that each load gives the same one; an instance is
    copied, so that the user's own object stays as it is.

    Raises:
        UsageError: The reference has no known form or lacks its name, or options do not fit it.
        ModelError: No such file, module or name; the user's code raises; the file is truncated,
            garbage, or holds pickled code that was not allowed.
        WeightsError: The weights do not belong to the module, or cannot be read.
        TensorError: An input spec contradicts the file.
    """
    check_names(request.inputs)
    load_operator_files(request.ops)
    reference = parse_reference(request.reference)
    if reference.kind == "python-file":
        return _load_file(request, reference)
    if reference.kind == "python-module":
        return _load_module(request, reference)
    path = find_model_file(reference.path)
    _refuse_options(request, reference)
    if reference.kind == "pickle":
        return _load_pickle(request, path)
    if reference.kind == "onnx":
        declared, files = read_graph_file(path)
        inputs = bind_inputs(declared, request.inputs, path)
        return LoadedSource("onnx", request.reference, inputs, files, onnx=path)
    program = load_program(path, allow_pickle=request.allow_pickle)
    inputs = bind_inputs(program_inputs(program, path), request.inputs, path)
    return LoadedSource("exported-program", request.reference, inputs, (path,), program=program)


def _refuse_options(request: SourceRequest, reference: Reference) -> None:
    if request.arguments:
        raise UsageError(
            f"{request.reference} is a file, not a factory: it takes no arguments.",
            hint="Leave --arg out, or give the Python code: file.py:name.",
        )
    if request.weights is not None and reference.kind != "pickle":
        raise UsageError(
            f"{request.reference} carries its own weights; --weights has no meaning for it.",
            hint="Leave --weights out, or give the Python code: file.py:name.",
        )


def _load_file(request: SourceRequest, reference: Reference) -> LoadedSource:
    path = find_model_file(reference.path).resolve()
    with _seeded(), workspace(str(path), path.parent) as space:
        space.import_file(path)
        module = make_module(space, reference.target, reference.name, request.arguments)
    return _as_source(request, module, space.files)


def _load_module(request: SourceRequest, reference: Reference) -> LoadedSource:
    key = f"{Path.cwd()}:{reference.target}"
    with _seeded(), workspace(key, Path.cwd()) as space:
        space.import_module(reference.target)
        module = make_module(space, reference.target, reference.name, request.arguments)
    return _as_source(request, module, space.files)


def _load_pickle(request: SourceRequest, path: Path) -> LoadedSource:
    with _seeded(), workspace(str(path), path.parent, Path.cwd()) as space:
        module = load_pickled_module(path, allow_pickle=request.allow_pickle)
    return _as_source(request, module, (path, *space.files))


def _as_source(request: SourceRequest, module: Any, files: tuple[Path, ...]) -> LoadedSource:
    if request.weights is not None:
        weights = find_model_file(request.weights)
        load_weights(module, weights)
        files = (*files, weights)
    module.eval()  # its value is not used: a train() of the user's may forget to return self
    return LoadedSource("module", request.reference, request.inputs, files, module=module)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Fix torch's CPU random numbers for the block: the same model comes out every time.

    Entered before `workspace`: torch itself must not be imported with the user's folder in front.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield
