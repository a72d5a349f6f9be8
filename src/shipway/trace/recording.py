"""Record what a session computes: into a trace, or as statistics that are only looked at."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.engines.base import PRECISIONS
from shipway.engines.tapping import Tap, TapSession
from shipway.environment import package_versions
from shipway.errors import OutputError, TensorError
from shipway.files import file_sha256
from shipway.progress import SILENT, Progress
from shipway.tensors import Tensors, dtype_of
from shipway.trace.opening import TappedModel
from shipway.trace.records import InputRecord, TensorRecord, TraceHeader
from shipway.trace.statistics import summarize, tensor_crc
from shipway.trace.store import Trace, TraceWriter

__all__ = ["describe_inputs", "describe_run", "observe_session", "record_session"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_HINT = "Free some space there and repeat the command with --resume; or --stats-only."
_UNDELIVERED = "the engine said it could show it, and did not"


def describe_run(opened: TappedModel, feeds: Tensors) -> TraceHeader:
    """Return the header of the trace of a run that is about to begin.

    Args:
        opened: What is run.
        feeds: Its inputs.
    """
    session = opened.session
    found = session.effective.get("precision", "")
    return TraceHeader(
        engine=str(opened.target),
        precision=found if found in PRECISIONS else opened.target.precision,
        model=str(opened.path),
        model_sha256=file_sha256(opened.path),
        inputs=describe_inputs(feeds),
        effective=dict(session.effective),
        untapped=dict(session.untapped),
        versions=package_versions(),
    )


def describe_inputs(feeds: Tensors) -> dict[str, InputRecord]:
    """Return what is kept of each input.

    Raises:
        TensorError: A dtype is not one of Shipway's.
    """
    return {
        name: InputRecord(dtype_of(value.dtype).name, tuple(value.shape), tensor_crc(value))
        for name, value in feeds.items()
    }


def record_session(
    session: TapSession,
    feeds: Tensors,
    folder: Path,
    header: TraceHeader,
    *,
    taps: Sequence[Tap] | None = None,
    keep_values: bool = True,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Trace:
    """Run once and write the tensors into a trace, one at a time.

    A run that goes on with a trace computes every tensor of it again, and writes those that are
    absent or have other bytes now: what it leaves is the trace of one run.

    Args:
        session: What runs.
        feeds: Every input by name.
        folder: Where the trace goes.
        header: What the trace is taken from, as `describe_run` returns it.
        taps: The tensors asked for, some of `session.taps`; None means all.
        keep_values: False keeps statistics only.
        resume: Go on with the trace in `folder`, if there is one.
        progress: Told of every tensor.

    Raises:
        OutputError: The disk is full, or the folder cannot be written. What was written before can
            be read.
        UsageError: The trace in `folder` is of another run.
        TensorError: A feed does not fit.
        EngineError: The engine failed. What was written before can be read.
    """
    make = TraceWriter.resume if resume else TraceWriter
    with _resume_hints(), make(folder, header, keep_values=keep_values) as writer:
        asked = {tap.name for tap in (session.taps if taps is None else taps)} | {*writer.names}
        wanted = [tap for tap in session.taps if tap.name in asked]
        left_out = len(session.taps) - len(wanted)
        writer.header = replace(writer.header, left_out=left_out)
        missing = _stream(session, feeds, wanted, writer.add, progress)
        untapped = {**session.untapped, **missing}
        writer.header = replace(writer.header, untapped=untapped)
        return writer.finish(session.check)


def observe_session(
    session: TapSession,
    feeds: Tensors,
    header: TraceHeader,
    *,
    taps: Sequence[Tap] | None = None,
    progress: Progress = SILENT,
) -> Trace:
    """Run once and return the statistics of the tensors; nothing is written.

    Args are those of `record_session`.

    Raises:
        TensorError: A feed does not fit.
        EngineError: The engine failed.
    """
    records: list[TensorRecord] = []

    def keep(tap: Tap, value: NDArray[Any]) -> None:
        dtype = dtype_of(value.dtype).name
        records.append(TensorRecord(tap, dtype, tuple(value.shape), summarize(value)))

    wanted = session.taps if taps is None else taps
    missing = _stream(session, feeds, wanted, keep, progress)
    whole = replace(
        header,
        untapped={**session.untapped, **missing},
        left_out=len(session.taps) - len(wanted),
    )
    return Trace(Path(), whole.finished(session.check), records)


def _stream(
    session: TapSession,
    feeds: Tensors,
    wanted: Sequence[Tap],
    receive: Callable[[Tap, NDArray[Any]], object],
    progress: Progress,
) -> dict[str, str]:
    """Hand each tensor on, and return those that could not be kept with the reason."""
    names = [tap.name for tap in wanted]
    missing = dict.fromkeys(names, _UNDELIVERED)
    progress.start("trace", len(names))
    every = len(names) == len(session.taps)
    for one in session.stream(feeds, None if every else names):
        try:
            receive(one.tap, one.value)
            missing.pop(one.tap.name, None)
        except TensorError as error:  # an element type that Shipway has no name for
            missing[one.tap.name] = str(error)
        del one  # or it would stay in memory while the next is computed
        progress.advance()
    return missing


@contextlib.contextmanager
def _resume_hints() -> Iterator[None]:
    """Say, where a disk is full, that the trace can be gone on with."""
    try:
        yield
    except OutputError as error:
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL
        if full:
            error.hint = _FULL_HINT
        raise
