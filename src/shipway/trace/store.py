"""The store of traces: written tensor by tensor, so that what was written can always be read."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.closing import Closing
from shipway.engines.tapping import Tap, TapCheck
from shipway.errors import OutputError, TensorError
from shipway.files import make_folder, output_errors, write_text
from shipway.tensorfiles import file_name
from shipway.tensors import dtype_named, dtype_of
from shipway.trace.folders import (
    clear_trace,
    lock_folder,
    refuse_another,
    refuse_occupied,
    sweep_folder,
)
from shipway.trace.reading import JOURNAL, MANIFEST, Trace, open_trace, trace_text
from shipway.trace.records import TensorRecord, TraceHeader
from shipway.trace.statistics import summarize, tensor_crc
from shipway.trace.tensor_file import file_fits, write_tensor

__all__ = ["Trace", "TraceWriter", "clear_trace", "open_trace", "refuse_occupied"]

_SYNC_SECONDS = 1.0
_SYNC_FILES = 64


class TraceWriter(Closing):
    """Writes a trace. Not for several threads at a time.

    The header is on disk, as that of an unfinished trace, before the first tensor. A tensor's line
    goes into the journal after its file took its final name; both are forced to the disk every
    second or so. `finish` replaces the header and takes the journal away. A process that is killed,
    or a full disk, therefore leaves every tensor readable that `add` has returned for.

    Args:
        folder: Made where it is absent.
        header: What the trace is taken from.
        keep_values: False keeps statistics only.

    Raises:
        OutputError: The folder cannot be written, holds a trace or other files, or is in use by
            another run.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with TraceWriter(Path(folder), TraceHeader("torch", "f32")) as writer:
        ...         writer.add(Tap("x", 0), np.ones(3, np.float32)).file
        ...         trace = writer.finish()
        ...     float(trace.read("x").sum())
        '00000-x.npy'
        3.0
    """

    def __init__(self, folder: Path, header: TraceHeader, *, keep_values: bool = True) -> None:
        """Make the folder and write the header."""
        refuse_occupied(folder)
        self._begin(folder, header, {}, keep_values=keep_values)

    @classmethod
    def resume(cls, folder: Path, header: TraceHeader, *, keep_values: bool = True) -> TraceWriter:
        """Go on with a trace; begin it where there is none.

        A tensor that is there already, with the same bytes, is not written again: `add` returns its
        record.

        Raises:
            UsageError: The trace is of another model, engine, precision or other inputs.
            OutputError: As for a new one.
            ModelError: Its `trace.json` is damaged.
        """
        if not (folder / MANIFEST).is_file():
            return cls(folder, header, keep_values=keep_values)
        found = open_trace(folder)
        refuse_another(found, header)
        writer = cls.__new__(cls)
        writer._begin(  # noqa: SLF001 -- its own method: __init__ refuses a folder that has a trace
            folder, header, {one.name: one for one in found.records}, keep_values=keep_values
        )
        return writer

    def _begin(
        self,
        folder: Path,
        header: TraceHeader,
        records: dict[str, TensorRecord],
        *,
        keep_values: bool,
    ) -> None:
        self.folder = folder
        self.header = replace(header, check=None, complete=False)
        """What `finish` writes; may be replaced until then."""
        self._keep_values = keep_values
        self._records = records
        self._added: set[str] = set()
        self._pending: list[Path] = []
        self._syncing: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, "shipway-trace")
        self._synced_at = time.monotonic()
        make_folder(folder)
        with output_errors(folder / JOURNAL):
            self._journal = (folder / JOURNAL).open("ab", buffering=0)
        try:
            lock_folder(self._journal.fileno(), folder)
            with output_errors(folder / MANIFEST):
                sweep_folder(folder)
                write_text(folder / MANIFEST, trace_text(self.header, records.values()))
                self._journal.truncate(0)  # its lines are in the manifest now
        except BaseException:
            self._journal.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors that are there, whether written now or before."""
        return tuple(self._records)

    def has(self, name: str) -> bool:
        """Whether a tensor is there, with all its values where they are to be kept."""
        record = self._records.get(name)
        if record is None or not self._keep_values:
            return record is not None
        return record.file is not None and file_fits(
            self.folder / record.file, record.dtype, record.shape
        )

    def add(self, tap: Tap, value: NDArray[Any]) -> TensorRecord:
        """Write a tensor.

        Args:
            tap: What is known of it; its name must be new.
            value: Any shape, any dtype of `shipway.tensors.DTYPES`.

        Raises:
            TensorError: The name was added before, or the dtype is not one of Shipway's.
            OutputError: The disk is full, or the folder cannot be written.
        """
        self._refuse_again(tap)
        record = self._unchanged(tap, value)
        if record is None:
            record = self._record(tap, value)
            with self._output_errors(tap.name):
                if record.file is not None:
                    write_tensor(self.folder / record.file, value)
                    self._pending.append(self.folder / record.file)
                self._append(record)
                self._drop_other_file(record)
        self._records[tap.name] = record
        self._added.add(tap.name)
        return record

    def add_facts(
        self, tap: Tap, dtype: str, shape: tuple[int, ...], facts: Mapping[str, float]
    ) -> TensorRecord:
        """Write what another tool said of a tensor whose values it did not keep.

        Args:
            tap: What is known of it; its name must be new.
            dtype: Element type, by Shipway's name.
            shape: Sizes.
            facts: Finite numbers, as in `TensorRecord`.

        Raises:
            TensorError: The name was added before, or the dtype is not one of Shipway's.
            OutputError: The disk is full, or the folder cannot be written.
        """
        self._refuse_again(tap)
        record = TensorRecord(tap, dtype_named(dtype).name, shape, facts=facts)
        with self._output_errors(tap.name):
            self._append(record)
            self._drop_other_file(record)
        self._records[tap.name] = record
        self._added.add(tap.name)
        return record

    def _refuse_again(self, tap: Tap) -> None:
        if tap.name in self._added:
            raise TensorError(
                f"'{tap.name}' is recorded twice in {self.folder}.",
                hint="Every tensor of a trace needs a name of its own.",
            )

    def _record(self, tap: Tap, value: NDArray[Any]) -> TensorRecord:
        dtype, shape = dtype_of(value.dtype).name, tuple(map(int, value.shape))
        file = f"{tap.order:05d}-{file_name(tap.name)}.npy" if self._keep_values else None
        return TensorRecord(tap, dtype, shape, summarize(value), file)

    def _unchanged(self, tap: Tap, value: NDArray[Any]) -> TensorRecord | None:
        """Return the record of an earlier run where its bytes are those of `value`."""
        old = self._records.get(tap.name)
        if old is None or old.tap != tap or old.statistics is None or not self.has(tap.name):
            return None
        same = old.dtype == dtype_of(value.dtype).name and old.shape == value.shape
        return old if same and old.statistics.crc == tensor_crc(value) else None

    def _drop_other_file(self, record: TensorRecord) -> None:
        """Delete the file of an earlier record of the same tensor, where it had another name."""
        old = self._records.get(record.name)
        if old is not None and old.file is not None and old.file != record.file:
            (self.folder / old.file).unlink(missing_ok=True)

    def _append(self, record: TensorRecord) -> None:
        line = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
        left = memoryview(line.encode() + b"\n")
        start = os.fstat(self._journal.fileno()).st_size
        try:
            while left:
                left = left[self._journal.write(left) :]
        except OSError:
            self._journal.truncate(start)  # the next line must not begin in the middle of this one
            raise
        late = time.monotonic() - self._synced_at > _SYNC_SECONDS
        if late or len(self._pending) >= _SYNC_FILES:
            self._sync(wait=False)

    def _sync(self, *, wait: bool) -> None:
        """Force files, then the journal that names them, to the disk, while the run goes on."""
        if self._syncing is not None and (wait or self._syncing.done()):
            self._syncing.result()
            self._syncing = None
        if self._syncing is None:
            paths, self._pending = self._pending, []
            self._syncing = self._pool.submit(_sync_all, paths, self._journal.fileno())
            self._synced_at = time.monotonic()
        if wait:
            self._syncing.result()

    def finish(self, check: TapCheck | None = None) -> Trace:
        """Say that every tensor asked for is there, and close.

        Args:
            check: Whether reading the tensors changed the result; None where nobody could check.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        self.header = self.header.finished(check)
        trace = Trace(self.folder, self.header, self._records.values())
        with self._output_errors(""):
            self._sync(wait=True)
            write_text(self.folder / MANIFEST, trace_text(self.header, trace.records))
            (self.folder / JOURNAL).unlink(missing_ok=True)
        self._release()
        return trace

    def close(self) -> None:
        """Stop writing. A trace without a single tensor is taken away; a second call does nothing."""
        if self._journal.closed:
            return
        with contextlib.suppress(OSError):  # what is being closed is a trace that was cut short
            if self._records:
                self._sync(wait=True)
            else:
                (self.folder / MANIFEST).unlink()
                (self.folder / JOURNAL).unlink()
        self._release()

    def _release(self) -> None:
        self._pool.shutdown(wait=True)
        self._journal.close()

    @contextlib.contextmanager
    def _output_errors(self, name: str) -> Iterator[None]:
        try:
            with output_errors(self.folder / MANIFEST):
                yield
        except OutputError as error:
            cause = error.__cause__
            why = (isinstance(cause, OSError) and cause.strerror) or str(error)
            at = f" at '{name}'" if name else ""
            there = len(self._records)
            left = f"The {there} tensors before it can be read" if there else "Nothing was written"
            raise OutputError(
                f"Cannot write {self.folder}: {why}{at}. {left}.", hint=error.hint
            ) from cause


def _sync_all(paths: Sequence[Path], journal: int) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    os.fsync(journal)
