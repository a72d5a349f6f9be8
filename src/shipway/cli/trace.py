"""The `shipway trace` command."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from shipway.cli.flags import EngineFlags, Flag, Many, model_request, read_bytes, read_sizes
from shipway.cli.inputs import InputFlags, read_inputs
from shipway.cli.terminal import show_progress, start_log
from shipway.cli.trace_view import show_trace
from shipway.engines.target import parse_target
from shipway.errors import UsageError
from shipway.progress import Progress
from shipway.tensors import Tensors, TensorSpec, random_feeds
from shipway.trace.filters import select_taps
from shipway.trace.opening import TappedModel, open_tapped
from shipway.trace.recording import describe_run, observe_session, record_session
from shipway.trace.store import Trace, clear_trace, open_trace, refuse_occupied

__all__ = ["trace"]


def trace(
    model: str = "",
    *,
    flags: EngineFlags = EngineFlags(),  # noqa: B008 -- frozen, and cyclopts reads the default here
    inputs: InputFlags = InputFlags(),  # noqa: B008 -- the same
    engine: str = "",
    preprocess: str = "none",
    output: Path | None = None,
    names: Many = (),
    op_type: Many = (),
    stats_only: Flag = False,
    max_memory: str = "2G",
    resume: Flag = False,
    force: Flag = False,
    script: Annotated[str, Parameter(name="--exec")] = "",
    level: str = "",
    call: int = 1,
    dump: Annotated[Path | None, Parameter(name="--import")] = None,
    dump_format: Annotated[str, Parameter(name="--format")] = "",
    mapping: Annotated[Path | None, Parameter(name="--map")] = None,
    json: Flag = False,
) -> int:
    """Record every tensor an engine computes, without changing what it computes.

    A model runs once, on the files of --input or on random inputs. Each tensor gets a line with its
    statistics; with --output, a folder with trace.json and a .npy file a tensor. Whatever stops the
    run, what was written can be read, and --resume goes on with it. --exec records a PyTorch script
    as it is; --import converts what another tool dumped.

    ```
    shipway trace model.onnx --input cat.jpg --preprocess imagenet-bicubic --output traces/ort
    shipway trace model.onnx --engine openvino:bf16 --names "encoder.*" --op-type MatMul
    shipway trace --exec "python infer.py" --output traces/script
    shipway trace --import dump_path --output traces/device
    ```

    Args:
        model: A compiled artifact, or an .onnx or .pt2 file (compiled for this run only).
        flags: What is asked of the engine.
        inputs: What the model runs on.
        engine: Engine, or engine:precision, for a model that is not compiled.
        preprocess: How an image becomes an input; see shipway evaluate --help.
        output: Folder for the trace; nothing is written without it.
        names: Only tensors of this name; * and ? stand for anything. Again for each.
        op_type: Only what this operator computes. Again for each.
        stats_only: Keep statistics only, not the values.
        max_memory: What the engine may hold in memory beyond the model, e.g. 512M.
        resume: Go on with the trace in --output, or begin it.
        force: Replace the trace in --output.
        script: Record this command, a PyTorch script, instead of a model.
        level: What of the script is recorded: module (the default) or operator.
        call: Which call of the script's model is recorded.
        dump: Convert this dump, a file or folder of another tool, instead of running anything.
        dump_format: Format of the dump; recognised if not given.
        mapping: File that says how the dump's names belong to the model's.
        json: Print JSON.
    """
    start_log(quiet=json)
    asked = _Asked(output, names, op_type, stats_only, resume, force)
    run_flags = {
        "--engine": engine, "--input": inputs.input, "--dim": inputs.dim, "--seed": inputs.seed,
        "--preprocess": preprocess != "none", "--max-memory": max_memory != "2G",
        "--resume": resume, "--threads": flags.threads, "--device": flags.device,
        "--no-optimize": not flags.optimize,
    }  # fmt: skip
    choice = {"--names": names, "--op-type": op_type, "--stats-only": stats_only}
    script_flags = {"--level": level, "--call": call != 1}
    dump_flags = {"--format": dump_format, "--map": mapping}
    kind = _kind(model, script, dump)
    if kind == "--exec":
        _refuse_flags(kind, {**run_flags, **dump_flags})
        found = _record_script(script, level or "module", call, asked)
        title = f"{script}  {found.header.engine}{_exit_note(found)}"
    elif kind == "--import":
        _refuse_flags(kind, {**run_flags, **choice, **script_flags})
        found = _import(dump or Path(), dump_format, mapping, asked)
        title = f"{dump}  {found.header.engine}"
    else:
        _refuse_flags(kind, {**dump_flags, **script_flags})
        sizes = read_bytes(max_memory, "--max-memory")
        found, title = _record_model((model, engine, sizes), flags, (inputs, preprocess), asked)
    show_trace(found, title, output, as_json=json)
    return 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be kept, and where."""

    output: Path | None
    names: tuple[str, ...]
    op_types: tuple[str, ...]
    stats_only: bool
    resume: bool
    force: bool

    def check_output(self) -> None:
        """Refuse a folder that cannot take the trace, before anything takes long."""
        for flag, given in (("--resume", self.resume), ("--force", self.force)):
            if given and self.output is None:
                raise UsageError(f"{flag} needs the folder of a trace.", hint="Add --output DIR.")
        if self.resume and self.force:
            raise UsageError(
                "--resume goes on with a trace and --force replaces it.",
                hint="Leave one of the two out.",
            )
        if self.output is not None and not self.resume:
            refuse_occupied(self.output, replace_trace=self.force)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield where to write: --output, cleared where that was asked for, or a temporary folder."""
        if self.output is not None:
            if self.force:
                clear_trace(self.output)
            yield self.output
            return
        with tempfile.TemporaryDirectory(prefix="shipway-trace-") as scratch:
            yield Path(scratch) / "trace"


def _kind(model: str, script: str, dump: Path | None) -> str:
    given = {"MODEL": model, "--exec": script, "--import": dump}
    found = [name for name, value in given.items() if value]
    if len(found) != 1:
        raise UsageError(
            f"Give one of MODEL, --exec and --import, not {' and '.join(found) or 'none'}.",
            hint="shipway trace model.onnx --output DIR",
        )
    return found[0]


def _refuse_flags(kind: str, values: Mapping[str, Any]) -> None:
    if given := [name for name, value in values.items() if value]:
        raise UsageError(f"{', '.join(given)}: no use with {kind}.", hint="shipway trace --help")


def _record_model(
    what: tuple[str, str, int],
    flags: EngineFlags,
    inputs: tuple[InputFlags, str],
    asked: _Asked,
) -> tuple[Trace, str]:
    model, engine, max_bytes = what
    asked.check_output()
    target = parse_target(engine) if engine else None
    request = model_request(model)
    with (
        show_progress() as progress,
        open_tapped(
            request, target, flags.options(), max_bytes=max_bytes, progress=progress
        ) as opened,
    ):
        feeds = _feeds(*inputs, opened.session.inputs)
        found = _run(opened, feeds, asked, progress)
        effective = found.header.effective
        threads = f", {effective['threads']} threads" if "threads" in effective else ""
        return found, f"{opened}  precision {found.header.precision}{threads}"


def _run(opened: TappedModel, feeds: Tensors, asked: _Asked, progress: Progress) -> Trace:
    session = opened.session
    taps = select_taps(session.taps, asked.names, asked.op_types)
    header = describe_run(opened, feeds)
    if asked.output is None:
        return observe_session(session, feeds, header, taps=taps, progress=progress)
    with asked.folder() as folder:
        return record_session(
            session,
            feeds,
            folder,
            header,
            taps=taps,
            keep_values=not asked.stats_only,
            resume=asked.resume,
            progress=progress,
        )


def _feeds(inputs: InputFlags, preprocess: str, specs: Sequence[TensorSpec]) -> Tensors:
    if not inputs.input:
        return random_feeds(specs, seed=inputs.seed, sizes=read_sizes(inputs.dim, specs))
    sets = read_inputs(inputs, specs, preprocess)
    if len(sets) != 1:
        raise UsageError(
            f"A trace is that of one run, and --input names {len(sets)} sets of inputs.",
            hint=f"Name one file: {sets[0].name}, say. Each run needs its own --output.",
        )
    return sets[0].feeds


def _record_script(script: str, level: str, call: int, asked: _Asked) -> Trace:
    from shipway.trace.script import record_script

    try:
        command = shlex.split(script)
    except ValueError as error:
        raise UsageError(f"--exec {script}: {error}.", hint="Quote it as in a shell.") from error
    if not command:
        raise UsageError("--exec needs a command.", hint='E.g. --exec "python infer.py"')
    asked.check_output()
    with asked.folder() as folder:
        record_script(
            command,
            folder,
            names=asked.names,
            op_types=asked.op_types,
            level=level,
            calls=call,
            stats_only=asked.stats_only or asked.output is None,
        )
        return open_trace(folder)


def _exit_note(found: Trace) -> str:
    code = found.header.effective.get("exit_code", "0")
    return "" if code == "0" else f"  the script ended with exit code {code}"


def _import(dump: Path, dump_format: str, mapping: Path | None, asked: _Asked) -> Trace:
    from shipway.trace.importing.registry import import_dump

    asked.check_output()
    with asked.folder() as folder:
        return import_dump(dump, folder, format_name=dump_format, mapping=mapping)
