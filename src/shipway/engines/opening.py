"""Open a session on whatever the user names: a compiled artifact, a model file, or PyTorch code."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from shipway.artifact import SIDECAR_SUFFIX, Artifact, load_artifact
from shipway.engines.base import Engine, EngineOptions, Session
from shipway.engines.registry import find_engine
from shipway.engines.target import GOLDEN, Target
from shipway.errors import UsageError
from shipway.export.model import export_model, load_portable
from shipway.export.options import ExportOptions
from shipway.export.portable import PortableModel
from shipway.progress import SILENT, Progress
from shipway.source.loading import SourceRequest, load_source

__all__ = [
    "OpenedModel",
    "PreparedModel",
    "asked_options",
    "choose_target",
    "compile_target",
    "open_model",
    "portable_model",
    "prepare_model",
]


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A compiled artifact, and what it takes to load it.

    Args:
        engine: The engine it was compiled for.
        target: That engine with its precision.
        artifact: The artifact.
        options: What to load it with; the precision is that of the target.
    """

    engine: Engine
    target: Target
    artifact: Artifact
    options: EngineOptions


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A session, and what it was opened from."""

    session: Session
    target: Target
    artifact: Artifact

    def __str__(self) -> str:
        """Name the engine and the file."""
        return f"{self.target} ({self.artifact.path.name})"


def portable_model(
    request: SourceRequest,
    folder: Path,
    *,
    options: ExportOptions | None = None,
    progress: Progress = SILENT,
) -> PortableModel:
    """Return the portable model that `request` names, exporting into `folder` where needed.

    A .onnx or .pt2 file with a side-car is used as it lies there, together with its siblings.

    Raises:
        ModelError: The source, or what lies beside it, is not usable.
    """
    path = Path(request.reference)
    if path.with_name(path.name + SIDECAR_SUFFIX).is_file():
        return load_portable(path.parent, path.stem)
    source = load_source(request)
    return export_model(source, folder, options=options or ExportOptions(), progress=progress)


def compile_target(
    model: PortableModel, target: Target, options: EngineOptions, folder: Path
) -> Artifact:
    """Lower the model for the target and compile it into `folder`.

    Raises:
        EngineMissing: The engine's package is not installed.
        EngineError: The engine refuses the model or an option.
        ModelError: The model file is not usable.
    """
    engine = find_engine(target.engine)
    with tempfile.TemporaryDirectory(prefix="shipway-lower-") as scratch:
        lowered = engine.lower(model, Path(scratch), inline=target.inline)
        return engine.compile(lowered, asked_options(options, target), folder)


@contextlib.contextmanager
def open_model(
    request: SourceRequest,
    target: Target | None,
    options: EngineOptions,
    *,
    progress: Progress = SILENT,
) -> Iterator[OpenedModel]:
    """Open a session for the length of the block.

    Args:
        request: A compiled artifact (opened as it is), or any source (exported and compiled into a
            temporary folder first; `shipway compile` keeps the result).
        target: Engine and precision; None takes those of the artifact, onnxruntime for .onnx, and
            torch for everything else.
        options: Threads, device and the like; the target decides the precision.
        progress: Told of the slow steps.

    Raises:
        UsageError: The artifact was compiled for another engine than asked for.
        ShipwayError: Whatever loading, exporting or compiling raises.
    """
    with prepare_model(request, target, options, progress=progress) as prepared:
        session = prepared.engine.load(prepared.artifact, prepared.options)
        with contextlib.closing(session):
            yield OpenedModel(session, prepared.target, prepared.artifact)


@contextlib.contextmanager
def prepare_model(
    request: SourceRequest,
    target: Target | None,
    options: EngineOptions,
    *,
    progress: Progress = SILENT,
) -> Iterator[PreparedModel]:
    """Compile what `request` names, unless it is an artifact already; files live in the block.

    Args and errors are those of `open_model`.
    """
    artifact = _compiled(Path(request.reference))
    chosen = choose_target(request, target)
    asked = asked_options(options, chosen)
    engine = find_engine(chosen.engine)
    if artifact is not None:
        yield PreparedModel(engine, chosen, artifact, asked)
        return
    with tempfile.TemporaryDirectory(prefix="shipway-") as scratch:
        folder = Path(scratch)
        model = portable_model(request, folder / "export", progress=progress)
        progress.start(f"compile for {chosen}")
        artifact = compile_target(model, chosen, options, folder / "engine")
        yield PreparedModel(engine, chosen, artifact, asked)


def choose_target(request: SourceRequest, target: Target | None) -> Target:
    """Return the engine that a model is opened with, before anything is compiled.

    Args:
        request: As for `open_model`.
        target: What was asked for; None: nothing was.

    Raises:
        UsageError: The artifact was compiled for another engine than asked for.
        ModelError: The side-car of the artifact is not usable.
    """
    artifact = _compiled(Path(request.reference))
    if artifact is not None:
        return _artifact_target(artifact, target)
    return target or _default_target(request)


def asked_options(options: EngineOptions, target: Target) -> EngineOptions:
    """Return the options with what the target decides: precision, optimisation, inlining."""
    optimize = options.optimize and target.optimize
    return replace(options, precision=target.precision, optimize=optimize, inline=target.inline)


def _compiled(path: Path) -> Artifact | None:
    if not path.with_name(path.name + SIDECAR_SUFFIX).is_file():
        return None
    # The engine verifies the hashes when it loads the artifact.
    artifact = load_artifact(path, verify=False)
    return artifact if artifact.engine else None


def _default_target(request: SourceRequest) -> Target:
    return Target("onnxruntime") if request.reference.endswith(".onnx") else GOLDEN


def _artifact_target(artifact: Artifact, target: Target | None) -> Target:
    options = artifact.made.get("options", {})
    precision, optimize = options.get("precision", "f32"), options.get("optimize", True)
    made_for = Target(artifact.engine, precision, optimize, options.get("inline", False))
    if target not in {None, made_for}:
        raise UsageError(
            f"{artifact.path} was compiled for {made_for}, not for {target}.",
            hint=f"shipway compile MODEL --engine {target} makes one for it.",
        )
    return made_for
