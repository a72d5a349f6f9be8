"""Record a user's own PyTorch script without editing it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shipway.errors import EngineError, ShipwayError, UsageError
from shipway.files import write_text
from shipway.trace.module_calls import LEVELS
from shipway.trace.reading import MANIFEST, open_trace, trace_text
from shipway.trace.records import TraceHeader
from shipway.trace.script_request import ScriptRequest, read_failure
from shipway.trace.store import refuse_occupied

__all__ = ["record_script"]

_BOOTSTRAP = Path(__file__).parent / "bootstrap"
_LOG = logging.getLogger("shipway.trace")
_STDERR = 2


def record_script(
    command: Sequence[str],
    folder: Path,
    *,
    names: Sequence[str] = (),
    op_types: Sequence[str] = (),
    level: str = "module",
    stats_only: bool = False,
    calls: int = 1,
    timeout_s: float | None = None,
) -> TraceHeader:
    """Run a command and record one forward pass of the model in it.

    The first nn.Module with weights that is called by something other than a module is the model.
    The command may be `python x.py`, `python -m package`, or anything that starts such a Python in
    the end. What it prints goes to stderr. torch.compile is switched off in it: what is recorded is
    the eager model. The script runs to its end, at full speed after the pass.

    Args:
        command: Program and arguments; no shell reads them.
        folder: Where the trace goes: empty, absent, or that of a trace without tensors.
        names: Patterns of the tensors wanted; all if empty.
        op_types: Patterns of the operators wanted.
        level: "module": what each module returns, under its path. "operator": what each eager ATen
            operator returns, as "<module>/<operator>#<n>".
        stats_only: Keep no values.
        calls: Which call of a model is recorded, from 1.
        timeout_s: Kill the command after this long; None waits.

    Returns:
        The header of the trace. `effective["exit_code"]` is the script's.

    Raises:
        UsageError: The command cannot be started, starts no Python, calls no module, or a pattern
            matches nothing.
        OutputError: The folder cannot take a trace, or the disk is full.
        EngineError: The model failed, the script ended in the middle of the pass, or it took too
            long. What was recorded before can be read.
    """
    if level not in LEVELS:
        raise UsageError(f"Unknown level '{level}'.", hint=f"One of: {', '.join(LEVELS)}.")
    if calls < 1:
        raise UsageError(f"There is no call number {calls}.", hint="The first call is 1.")
    refuse_occupied(folder)
    with tempfile.TemporaryDirectory(prefix="shipway-script-") as scratch:
        state = Path(scratch)
        request = ScriptRequest(
            tuple(command),
            str(folder.absolute()),
            tuple(names),
            tuple(op_types),
            level,
            not stats_only,
            calls,
        )
        request.write(state)
        code = _run(request.command, state, timeout_s)
        if (failure := read_failure(state)) is not None:
            raise failure
        return _result(request, folder, state, code)


def _run(command: Sequence[str], state: Path, timeout_s: float | None) -> int | None:
    """Run the command and return its exit code; None where it took too long.

    Raises:
        UsageError: It cannot be started.
    """
    paths = [str(_BOOTSTRAP), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "SHIPWAY_TRACE_STATE": str(state),
        "TORCHDYNAMO_DISABLE": "1",
    }
    try:
        process = subprocess.Popen(  # noqa: S603 -- running the user's command is what is asked for
            command, env=variables, stdout=_STDERR, start_new_session=timeout_s is not None
        )
    except OSError as error:
        raise UsageError(
            f"Cannot start {command[0]}: {error.strerror}.",
            hint='Give a whole command: --exec "python infer.py".',
        ) from error
    with _ended(process):
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind when the wait for it is broken off."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _result(request: ScriptRequest, folder: Path, state: Path, code: int | None) -> TraceHeader:
    ended = "was stopped: it took too long" if code is None else f"ended with exit code {code}"
    if not (state / "claimed").exists():
        raise _nothing_called(request, state, ended)
    trace = open_trace(folder)
    if not trace.header.complete:
        raise EngineError(
            f"The script {ended} in the middle of the pass; what was computed before is in "
            f"{folder}.",
            hint="shipway compare takes it as it is.",
        )
    if code:
        _LOG.warning("The pass was recorded; later the script %s.", ended)
    effective = {**trace.header.effective, "exit_code": str(code)}
    header = replace(trace.header, effective=effective)
    write_text(folder / MANIFEST, trace_text(header, trace.records))
    return header


def _nothing_called(request: ScriptRequest, state: Path, ended: str) -> ShipwayError:
    """Return why nothing was recorded: no Python, no torch, no call, or too few calls."""
    shown = " ".join(request.command)
    broken = next(iter(state.glob("broken-*")), None)
    if broken is not None:
        python, _, reason = broken.read_text(encoding="utf-8").partition("\n")
        return EngineError(
            f"Shipway cannot record in {python}, which runs the script: {reason}.",
            hint=f"Install Shipway there: {python} -m pip install shipway.",
        )
    if not any(state.glob("started-*")):
        return UsageError(
            f"'{shown}' {ended} and started no Python that could be recorded.",
            hint="Python with -I, -E or -S cannot. Give the Python command itself.",
        )
    passed = state / "passed"
    seen = passed.read_text(encoding="utf-8").splitlines() if passed.is_file() else []
    with_weights = [line for line in seen if not line.endswith(")")]
    if with_weights:
        return UsageError(
            f"'{shown}' {ended} after {len(with_weights)} calls of a model; call "
            f"{request.calls} was to be recorded.",
            hint=f"Take one of the first {len(with_weights)}.",
        )
    called = f" (only {', '.join(dict.fromkeys(seen))})" if seen else ""
    return UsageError(
        f"'{shown}' {ended} and ran no PyTorch module with weights{called}.",
        hint="The model must be an nn.Module that the script calls: model(x).",
    )
