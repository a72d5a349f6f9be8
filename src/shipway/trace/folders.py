"""The folder of a trace: whether it may be written to, and by whom."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

from shipway.errors import OutputError, ShipwayError, UsageError
from shipway.files import output_errors
from shipway.trace.reading import JOURNAL, MANIFEST, Trace, open_trace
from shipway.trace.records import TraceHeader
from shipway.trace.tensor_file import PARTIAL_SUFFIX

__all__ = ["clear_trace", "lock_folder", "refuse_another", "refuse_occupied", "sweep_folder"]


def refuse_occupied(folder: Path, *, replace_trace: bool = False) -> None:
    """Refuse a folder in which a new trace must not begin.

    Args:
        folder: The folder; it may be absent.
        replace_trace: A trace in it is no reason: it will be cleared away.

    Raises:
        OutputError: It is a file, holds a trace with tensors in it, or files of another kind.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file.", hint="Give a folder with --output.")
    if (folder / MANIFEST).is_file():
        found = _trace_in(folder)
        if found.records and not replace_trace:
            state = "a trace" if found.header.complete else "an unfinished trace"
            raise OutputError(
                f"{folder} holds {state} of {len(found.records)} tensors.",
                hint="--resume goes on with it; --force replaces it; or give another --output.",
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} holds files, and none is a {MANIFEST}.",
            hint="Give an empty or a new folder with --output.",
        )


def clear_trace(folder: Path) -> None:
    """Delete the trace in a folder, and nothing else; none is fine.

    Its `trace.json` goes last, so that whatever remains after a kill is still known for a trace.

    Raises:
        OutputError: The folder holds something else, cannot be written, or is in use.
    """
    if not (folder / MANIFEST).is_file():
        refuse_occupied(folder)
        return
    files = [record.file for record in _trace_in(folder).records if record.file is not None]
    with output_errors(folder / MANIFEST), (folder / JOURNAL).open("ab") as journal:
        lock_folder(journal.fileno(), folder)
        sweep_folder(folder)
        for name in files:
            (folder / name).unlink(missing_ok=True)
        (folder / JOURNAL).unlink()
        (folder / MANIFEST).unlink()


def _trace_in(folder: Path) -> Trace:
    try:
        return open_trace(folder)
    except ShipwayError as error:
        raise OutputError(
            f"{folder} is not empty, and cannot be replaced: {error}",
            hint="Give another folder with --output, or delete this one.",
        ) from error


def refuse_another(found: Trace, header: TraceHeader) -> None:
    """Refuse to go on with the trace of another run.

    Raises:
        UsageError: Model, engine, precision, inputs, settings or versions differ; the message says
            which.
    """
    differences = list(_differences(found.header, header))
    if differences:
        raise UsageError(
            f"{found.folder} is a trace of another run: {'; '.join(differences)}.",
            hint="Give another folder with --output, or replace the trace: --force.",
        )


def _differences(old: TraceHeader, new: TraceHeader) -> Iterator[str]:
    for what in ("engine", "precision"):
        before, now = getattr(old, what), getattr(new, what)
        if before != now:
            yield f"its {what} is {before}, not {now}"
    if old.model_sha256 != new.model_sha256:
        yield f"its model is {old.model or 'unknown'} with another SHA-256 than {new.model}"
    for name in sorted({*old.inputs, *new.inputs}):
        if old.inputs.get(name) != new.inputs.get(name):
            yield f"its input '{name}' is another"
    for what in ("effective", "versions"):
        before, now = getattr(old, what), getattr(new, what)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                yield f"its {key} is {before.get(key, 'none')}, not {now.get(key, 'none')}"


def lock_folder(descriptor: int, folder: Path) -> None:
    """Keep other runs away from a trace until its journal, open as `descriptor`, is closed.

    Raises:
        OutputError: Another run has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{folder} is being written by another run.",
            hint="Wait for it, or give another folder with --output.",
        ) from error


def sweep_folder(folder: Path) -> None:
    """Delete what a killed run left half-written."""
    for path in (*folder.glob(f"*.npy{PARTIAL_SUFFIX}"), *folder.glob(".tmp-*")):
        path.unlink(missing_ok=True)
