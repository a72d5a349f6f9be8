"""PyTorch to ONNX: the model, the program it came from, the name map, and what is known of them."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.artifact import SIDECAR_SUFFIX, Artifact, load_artifact
from shipway.environment import package_versions
from shipway.errors import ExportError, ModelError, UsageError
from shipway.export.draft import Draft, draft_module, draft_program
from shipway.export.name_map import NameMap, ValueEntry, write_name_map
from shipway.export.onnx_file import (
    check_onnx,
    check_opset,
    copy_onnx,
    find_flaw,
    opset_of,
    read_graph,
    read_specs,
    save_onnx,
)
from shipway.export.options import ExportOptions
from shipway.export.portable import PortableModel
from shipway.export.program_file import save_program
from shipway.export.quiet import collect_warnings
from shipway.files import atomic_folder, make_folder, output_errors
from shipway.progress import SILENT, Progress
from shipway.source.tensordata import EXTERNAL_THRESHOLD_BYTES
from shipway.tensors import TensorSpec

if TYPE_CHECKING:
    from shipway.source.loading import LoadedSource

__all__ = ["export_model", "load_portable"]

_DEFAULT = ExportOptions()
_SUFFIXES = (".onnx", ".onnx.data", ".pt2", ".map.json")


def export_model(
    source: LoadedSource,
    folder: Path,
    *,
    name: str = "model",
    options: ExportOptions = _DEFAULT,
    progress: Progress = SILENT,
) -> PortableModel:
    """Export a model to ONNX.

    Writes into `folder`: `<name>.onnx` (with `<name>.onnx.data` from 1 GiB of weights on),
    `<name>.pt2` (the ExportedProgram that golden, AOTInductor and the ONNX model come from),
    `<name>.map.json` (the name map), and a side-car beside the first two. A source that is ONNX
    already is checked and copied; it has no program.

    Outputs are tensors only. They are named by the keys of a dict or the fields of a dataclass;
    a single tensor is "output", the items of a tuple "output_0", "output_1"; `options.outputs`
    overrides. What is no tensor (None, numbers) is left out and listed in the side-car under
    "left_out_outputs".

    Args:
        source: What `load_source` returned.
        folder: Created if absent. Files of an earlier export of the same name are replaced.
        name: File name without ending.
        options: Opset, route, names, bounds.
        progress: Told of five steps.

    Raises:
        UsageError: The name cannot be a file name.
        ExportError: PyTorch or its exporter refuses the model, or delivers another than asked for.
        ModelError: The ONNX source is not a valid model.
        OutputError: The folder cannot be written.
    """
    _check_name(name)
    progress.start(f"export {name}", 5)
    make_folder(folder)
    if source.kind == "onnx":
        with _staging(folder, name) as staged:
            made = _stage_copy(source, options, staged, name)
        progress.advance(5)
    else:
        with _scratch(folder) as scratch:
            draft = _draft(source, options, scratch, progress.advance)
            progress.advance()
            with _staging(folder, name) as staged:
                made = _stage_draft(draft, source, options, staged, name)
            progress.advance()
    return _save_sidecars(folder, name, made)


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise UsageError(f"'{name}' cannot be a file name.", hint="Give --name without a folder.")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    with output_errors(folder):
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-")
    with scratch as path:
        yield Path(path)


@contextlib.contextmanager
def _staging(folder: Path, name: str) -> Iterator[Path]:
    """Yield a folder whose files replace those of the last export together, when all are there."""
    target = folder / f".{name}.export"
    with atomic_folder(target) as staged:
        yield staged
    with output_errors(folder):
        # Side-cars first: with them gone, nothing vouches for a half-replaced set.
        for suffix in (".onnx", ".pt2"):
            (folder / f"{name}{suffix}{SIDECAR_SUFFIX}").unlink(missing_ok=True)
        for suffix in _SUFFIXES:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
        for path in sorted(item for item in target.rglob("*") if item.is_file()):
            final = folder / path.relative_to(target)
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
        shutil.rmtree(target)


@dataclass(frozen=True, slots=True)
class _Made:
    """What was written, for the side-cars."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    companions: tuple[str, ...]
    facts: dict[str, Any]
    has_program: bool


def _draft(
    source: LoadedSource, options: ExportOptions, scratch: Path, advance: Callable[[], None]
) -> Draft:
    with collect_warnings() as warnings:
        if source.kind == "module":
            draft = draft_module(source.module, source.inputs, options, scratch, advance)
        else:
            draft = draft_program(source.program, source.inputs, options, advance)
    draft.warnings += warnings
    return draft


def _stage_draft(
    draft: Draft, source: LoadedSource, options: ExportOptions, staged: Path, name: str
) -> _Made:
    onnx_path, program_path = staged / f"{name}.onnx", staged / f"{name}.pt2"
    companions = save_onnx(draft.model, onnx_path, threshold_bytes=EXTERNAL_THRESHOLD_BYTES)
    check_opset(read_graph(onnx_path), options.opset)
    if flaw := find_flaw(onnx_path):
        raise ExportError(
            f"The exporter wrote a model that ONNX's checker refuses: {flaw}.",
            hint="Try another --opset, or --legacy.",
        )
    if draft.program is not None:
        save_program(draft.program, program_path)
    name_map = NameMap(
        onnx_path.name,
        None if draft.program is None else program_path.name,
        draft.route,
        draft.tensors,
        draft.values,
    )
    write_name_map(name_map, staged / f"{name}.map.json")
    facts = {
        "source": source.reference,
        "options": options.to_json(),
        "opset": options.opset,
        "onnx_nodes": sum(1 for _ in draft.model.graph.all_nodes()),
        "warnings": draft.warnings,
        **_describe_map(name_map),
        **draft.facts,
    }
    return _Made(draft.inputs, draft.outputs, companions, facts, draft.program is not None)


def _describe_map(name_map: NameMap) -> dict[str, Any]:
    coverage = {} if name_map.coverage is None else {"name_map_coverage": name_map.coverage}
    return {"route": name_map.route, "name_map": name_map.statuses, **coverage}


def _stage_copy(source: LoadedSource, options: ExportOptions, staged: Path, name: str) -> _Made:
    path = staged / f"{name}.onnx"
    if source.onnx is None:
        raise ModelError(f"{source.reference} is said to be ONNX, and no file is given.")
    check_onnx(source.onnx)
    companions = copy_onnx(source.onnx, path)
    model = read_graph(path)
    _check_copy_options(options, opset_of(model))
    inputs, outputs = read_specs(model)
    values = tuple(ValueEntry(tensor.name, "") for tensor in model.graph.initializer) + tuple(
        ValueEntry(output, node.op_type)
        for node in model.graph.node
        for output in node.output
        if output
    )
    name_map = NameMap(path.name, None, "onnx", (), values)
    write_name_map(name_map, staged / f"{name}.map.json")
    facts = {
        "source": source.reference,
        "opset": opset_of(model),
        "onnx_nodes": len(model.graph.node),
        "parameters": sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        "program": "none: the source is ONNX",
        "warnings": [],
        **_describe_map(name_map),
    }
    return _Made(source.inputs or inputs, outputs, companions, facts, has_program=False)


def _check_copy_options(options: ExportOptions, opset: int) -> None:
    """Refuse what was asked for and a copy cannot give; a default is not asked for."""
    wanted = {
        "--legacy": options.legacy,
        "--output-name": options.outputs,
        "--bound": options.bounds,
        "--opset": options.opset not in {_DEFAULT.opset, opset},
    }
    if refused := [flag for flag, asked in wanted.items() if asked]:
        raise ExportError(
            f"A model that is ONNX already (opset {opset}) is copied as it is; {', '.join(refused)} "
            "cannot be honoured.",
            hint="Leave it out, or export from the PyTorch model.",
        )


def _save_sidecars(folder: Path, name: str, made: _Made) -> PortableModel:
    map_name = f"{name}.map.json"
    onnx = Artifact(
        folder / f"{name}.onnx",
        "onnx",
        "",
        made.inputs,
        made.outputs,
        (*made.companions, map_name),
        made.facts,
        package_versions(),
    ).save()
    program = None
    if made.has_program:
        program = Artifact(
            folder / f"{name}.pt2",
            "exported-program",
            "",
            made.inputs,
            made.outputs,
            (),
            made.facts,
            onnx.versions,
        ).save()
    return PortableModel(
        made.inputs,
        made.outputs,
        onnx=onnx.path,
        program=None if program is None else program.path,
        name_map=folder / map_name,
    )


def load_portable(folder: Path, name: str = "model", *, verify: bool = True) -> PortableModel:
    """Read back what `export_model` wrote, from its side-cars alone.

    Args:
        folder: Where it was written.
        name: The name it was written under.
        verify: Hash the files and compare; False only where the caller has just done so.

    Raises:
        ModelError: There is no export of this name, or a file changed since.
    """
    onnx = load_artifact(folder / f"{name}.onnx", verify=verify)
    map_path, program_path = folder / f"{name}.map.json", folder / f"{name}.pt2"
    program = load_artifact(program_path, verify=verify) if program_path.is_file() else None
    return PortableModel(
        onnx.inputs,
        onnx.outputs,
        onnx=onnx.path,
        program=None if program is None else program.path,
        name_map=map_path if map_path.is_file() else None,
    )
