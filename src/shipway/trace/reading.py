"""Reading a trace: a folder with `trace.json` and, unless only statistics are kept, .npy files."""

from __future__ import annotations

import difflib
import itertools
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.errors import ModelError, TensorError
from shipway.files import read_json
from shipway.tensors import dtype_named
from shipway.trace.records import SCHEMA_VERSION, TensorRecord, TraceHeader
from shipway.trace.tensor_file import map_tensor

__all__ = ["JOURNAL", "MANIFEST", "Trace", "open_trace", "read_trace_text", "trace_text"]

MANIFEST = "trace.json"
JOURNAL = "tensors.jsonl"
"""While a trace is being written: one line for each tensor that is there, in the order it came."""

_LOG = logging.getLogger("shipway.trace")
_BAD_DATA = (KeyError, TypeError, ValueError, AttributeError, TensorError)


class Trace:
    """A trace that was opened. Nothing of the tensors is in memory before `read`.

    Args:
        folder: Where it lies.
        header: What it was taken from; `header.complete` is False for one that was cut short.
        records: Its tensors, in the order of execution.
    """

    def __init__(self, folder: Path, header: TraceHeader, records: Iterable[TensorRecord]) -> None:
        """Keep the records by name."""
        self.folder = folder
        self.header = header
        self.records = tuple(sorted(records, key=lambda record: record.tap.order))
        self._by_name = {record.name: record for record in self.records}

    @property
    def has_values(self) -> bool:
        """Whether the values of every tensor were kept, not statistics alone."""
        return bool(self.records) and all(record.file is not None for record in self.records)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._by_name

    def record(self, name: str) -> TensorRecord:
        """Return what is known of a tensor.

        Raises:
            TensorError: The trace has no tensor of this name.
        """
        if name not in self._by_name:
            close = difflib.get_close_matches(name, self._by_name, n=5)
            raise TensorError(
                f"The trace {self.folder} has no tensor '{name}'.",
                hint=f"It has {', '.join(close)}." if close else "Its names are in trace.json.",
            )
        return self._by_name[name]

    def read(self, name: str) -> NDArray[Any]:
        """Return the values of a tensor, mapped into memory: read as they are touched.

        Returns:
            An array that cannot be written to, with the dtype and shape of the record.

        Raises:
            TensorError: No such tensor; its values were not kept; or its file is absent, truncated
                or holds another tensor.
        """
        record = self.record(name)
        if record.file is None:
            raise TensorError(
                f"The trace {self.folder} has only statistics of '{name}', not its values.",
                hint="Record it again without --stats-only.",
            )
        return map_tensor(self.folder / record.file, name, record.dtype, record.shape)


def open_trace(folder: Path) -> Trace:
    """Open a trace, finished or cut short.

    Args:
        folder: The folder, or the `trace.json` in it.

    Raises:
        TensorError: There is no trace.
        ModelError: Its `trace.json` is damaged, or of a newer Shipway.
    """
    if folder.name == MANIFEST and folder.is_file():
        folder = folder.parent
    manifest = folder / MANIFEST
    if not manifest.is_file():
        what = f"there is no {MANIFEST} in it" if folder.is_dir() else "there is no such folder"
        raise TensorError(
            f"{folder} is no trace: {what}.",
            hint=f"shipway trace MODEL --output {folder} makes one; "
            "shipway trace --import DUMP --output DIR converts another tool's.",
        )
    header, records = read_trace_text(manifest)
    return Trace(folder, header, _with_journal(folder / JOURNAL, records).values())


def read_trace_text(manifest: Path) -> tuple[TraceHeader, dict[str, TensorRecord]]:
    """Read a `trace.json` alone.

    Raises:
        ModelError: It is damaged, or of a newer Shipway.
    """
    hint = "Record the trace again; the .npy files beside it can be read with numpy.load."
    try:
        data = read_json(manifest)
    except ModelError as error:
        raise ModelError(str(error), hint=hint) from error
    try:
        if data["schema_version"] > SCHEMA_VERSION:
            raise ModelError(
                f"{manifest} has schema {data['schema_version']}; "
                f"this Shipway reads up to {SCHEMA_VERSION}.",
                hint="pip install --upgrade shipway",
            )
        header = _checked_header(TraceHeader.from_json(data))
        records = [_read_record(item) for item in data["tensors"]]
    except _BAD_DATA as error:
        raise ModelError(f"{manifest} is not a trace of Shipway: {error!r}.", hint=hint) from error
    return header, {record.name: record for record in records}


def _checked_header(header: TraceHeader) -> TraceHeader:
    texts = (header.engine, header.precision, header.model, header.model_sha256)
    facts = (header.effective, header.untapped, header.versions)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"the texts of the header are {texts}")
    if not all(isinstance(value, str) for fact in facts for value in fact.values()):
        raise TypeError("a fact of the header is not a text")
    return header


def _read_record(data: Mapping[str, Any]) -> TensorRecord:
    record = TensorRecord.from_json(data)
    dtype_named(record.dtype)
    if not isinstance(data["name"], str) or not isinstance(data["order"], int):
        raise TypeError(f"'{data['name']}' has the place {data['order']}")
    if not all(isinstance(size, int) and size >= 0 for size in data["shape"]):
        raise ValueError(f"'{record.name}' has the shape {data['shape']}")
    if record.file is not None and Path(record.file).name != record.file:
        raise ValueError(f"'{record.file}' is not a file of the folder")
    _check_numbers(record)
    return record


def _check_numbers(record: TensorRecord) -> None:
    if not all(isinstance(number, int | float) for number in record.facts.values()):
        raise TypeError(f"the facts of '{record.name}' are not numbers")
    if record.statistics is None:
        return
    data = record.statistics.to_json()
    lists = [data.pop(name) for name in ("quantiles", "channel_l2", "projections")]
    numbers = [*itertools.chain(*lists), *data.values()]
    if not all(number is None or isinstance(number, int | float) for number in numbers):
        raise TypeError(f"the statistics of '{record.name}' are not numbers")


def _with_journal(journal: Path, records: dict[str, TensorRecord]) -> dict[str, TensorRecord]:
    """Add what was written after `trace.json`; a line that was cut short is the last one."""
    try:
        lines = journal.read_bytes().split(b"\n")
    except OSError:
        return records
    damaged = 0
    for line in filter(None, lines[:-1]):
        try:
            record = _read_record(json.loads(line))
        except _BAD_DATA:
            damaged += 1
        else:
            records[record.name] = record
    if damaged:
        _LOG.warning("%s: %d damaged lines left out", journal, damaged)
    return records


def trace_text(header: TraceHeader, records: Iterable[TensorRecord]) -> str:
    """Write a `trace.json`: one line for each fact and each tensor."""
    facts = [f"  {_json(key)}: {_json(value)},\n" for key, value in header.to_json().items()]
    tensors = ",\n".join(f"    {_json(record.to_json())}" for record in records)
    return "{\n" + "".join(facts) + '  "tensors": [\n' + tensors + "\n  ]\n}\n"


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
