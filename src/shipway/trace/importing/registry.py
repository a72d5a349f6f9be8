"""Every dump that can be imported, found by what lies in the folder, and written as a trace."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from shipway.environment import package_versions
from shipway.errors import TensorError, UsageError
from shipway.tensors import dtype_of
from shipway.trace.importing.aotinductor import detect_aotinductor, read_aotinductor
from shipway.trace.importing.ascend import detect_ascend, read_ascend
from shipway.trace.importing.dump import ImportedDump, ImportedTensor
from shipway.trace.importing.msprobe import detect_msprobe, read_msprobe
from shipway.trace.importing.msprobe_offline import needs_model
from shipway.trace.importing.plain_dump import detect_plain, read_plain_dump
from shipway.trace.importing.polygraphy import detect_polygraphy, read_polygraphy
from shipway.trace.importing.trtexec import detect_trtexec, read_trtexec
from shipway.trace.records import InputRecord, TensorRecord, TraceHeader
from shipway.trace.statistics import tensor_crc
from shipway.trace.store import Trace, TraceWriter

__all__ = ["FORMATS", "detect_format", "import_dump"]


def _never(_: Path) -> bool:
    return False


def _always(_: Path) -> bool:
    return True


class _Format(NamedTuple):
    detect: Callable[[Path], bool]
    read: Callable[[Path, Path | None], ImportedDump]
    takes_map: bool
    knows_nodes: Callable[[Path], bool] = _never
    """Whether the names in a dump are those of ONNX nodes, and not of their values."""


_FORMATS = {
    "ascend": _Format(detect_ascend, read_ascend, True, _always),
    "msprobe": _Format(detect_msprobe, read_msprobe, True, needs_model),
    "aotinductor": _Format(detect_aotinductor, read_aotinductor, True),
    "trtexec": _Format(detect_trtexec, read_trtexec, False),
    "polygraphy": _Format(detect_polygraphy, read_polygraphy, False),
    "plain": _Format(detect_plain, read_plain_dump, True),
}
FORMATS = tuple(_FORMATS)
"""Names of the formats, in the order in which they are looked for."""

_MOST_REASONS = 3


def detect_format(path: Path) -> str | None:
    """Return the name of the format that a file or folder has; None where it is none of them."""
    return next((name for name, one in _FORMATS.items() if one.detect(path)), None)


def import_dump(
    path: Path,
    output: Path | None,
    *,
    format_name: str = "",
    mapping: Path | None = None,
    model: Path | None = None,
) -> Trace:
    """Write another tool's dump as a trace.

    A tensor that cannot be read does not stop the others: it is in `header.untapped` with the
    reason. A tensor that an operator reads is left out where its bytes are those of one that came
    before it; `header.left_out` counts those.

    Args:
        path: The dump; a file or a folder.
        output: Folder of the trace; None writes it to a temporary one, which is deleted with the
            trace that is returned.
        format_name: One of `FORMATS`; "" finds out.
        mapping: What gives the names of the original model; which files that may be depends on the
            format.
        model: The ONNX model that was run, where that is known. Without a map it tells which value
            a node of the dump computes; a format that needs no such thing leaves it alone.

    Raises:
        UsageError: Unknown format, a format that takes no map, or a map that cannot be read.
        TensorError: There is no such path, it is no dump of that format, or no tensor of it can be
            read.
        OutputError: The trace cannot be written, or `output` is not empty.
    """
    name = _choose(path, format_name)
    if mapping is not None and not _FORMATS[name].takes_map:
        raise UsageError(
            f"The format {name} takes no map: its tensors have the names of the model.",
            hint="Leave --map out.",
        )
    if mapping is None and model is not None and _FORMATS[name].knows_nodes(path):
        mapping = model
    dump = _FORMATS[name].read(path, mapping)
    if output is not None:
        return _write(dump, path, output)
    folder = Path(tempfile.mkdtemp(prefix="shipway-import-"))
    try:
        trace = _write(dump, path, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(trace, shutil.rmtree, folder, ignore_errors=True)
    return trace


def _choose(path: Path, format_name: str) -> str:
    if format_name and format_name not in _FORMATS:
        raise UsageError(f"Unknown format '{format_name}'.", hint=f"One of: {', '.join(FORMATS)}.")
    if not path.exists():
        raise TensorError(f"There is no {path}.", hint="Name the folder or file of the dump.")
    found = detect_format(path)
    if format_name and not _FORMATS[format_name].detect(path):
        raise TensorError(
            f"{path} is no dump of the format {format_name}.",
            hint=f"It looks like {found}: --format {found}."
            if found
            else "It looks like none of the formats that are known.",
        )
    if not format_name and found is None:
        raise TensorError(
            f"{path} is no dump that Shipway knows.",
            hint=f"Name its format: --format {'|'.join(FORMATS)}. Which files each one has: "
            "docs/how-to/read-other-dumps.md.",
        )
    return format_name or found or ""


def _write(dump: ImportedDump, path: Path, folder: Path) -> Trace:
    header = TraceHeader(
        engine=dump.title,
        precision=dump.precision,
        effective={"source": str(path), **dump.notes},
        versions=package_versions(),
    )
    with TraceWriter(folder, header) as writer:
        tally = _Tally(dict(dump.problems), left_out=dump.repeats)
        for tensor in dump.tensors:
            tally.add(writer, tensor)
        tally.problems.update(dump.problems)  # some are only found on the way
        if not writer.names:
            raise _nothing_read(path, tally.problems)
        writer.header = replace(
            writer.header,
            inputs=tally.inputs,
            untapped=tally.problems,
            left_out=tally.left_out,
        )
        return writer.finish()


def _nothing_read(path: Path, problems: Mapping[str, str]) -> TensorError:
    reasons = [f"{name}: {why}" for name, why in list(problems.items())[:_MOST_REASONS]]
    more = len(problems) - len(reasons)
    text = "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")
    return TensorError(
        f"No tensor of {path} can be read{': ' + text if text else '.'}",
        hint="Was the dump written to its end, and copied whole?",
    )


@dataclass(slots=True, eq=False)
class _Tally:
    """What became of each tensor while they are written.

    Args:
        problems: Those that cannot be read, with the reason.
        left_out: How many were copies of others.
        inputs: The inputs of the model.
    """

    problems: dict[str, str]
    left_out: int = 0
    inputs: dict[str, InputRecord] = field(default_factory=dict)
    _kept: set[tuple[Any, ...]] = field(default_factory=set)

    def add(self, writer: TraceWriter, tensor: ImportedTensor) -> None:
        """Write a tensor, or note why not."""
        try:
            if tensor.load is None:
                self._add_facts(writer, tensor)
            else:
                self._add_values(writer, tensor, tensor.load())
        except (TensorError, MemoryError) as error:
            self.problems[tensor.tap.name] = str(error) or "there is not enough memory for it"

    def _add_facts(self, writer: TraceWriter, tensor: ImportedTensor) -> None:
        key = (tensor.dtype, tensor.shape, *sorted(tensor.facts.items()))
        if not tensor.facts:
            self.problems[tensor.tap.name] = "the tool kept neither its values nor numbers of it"
        elif self._is_copy(tensor, key):
            self.left_out += 1
        else:
            writer.add_facts(tensor.tap, tensor.dtype, tensor.shape or (), tensor.facts)
            self._kept.add(key)

    def _add_values(self, writer: TraceWriter, tensor: ImportedTensor, value: NDArray[Any]) -> None:
        dtype, shape = dtype_of(value.dtype).name, tuple(value.shape)
        if tensor.may_repeat and self._is_copy(tensor, (dtype, shape, tensor_crc(value))):
            self.left_out += 1
            return
        record = writer.add(tensor.tap, value)
        if record.statistics is not None:
            self._kept.add((dtype, shape, record.statistics.crc))
            self._note_input(record, record.statistics.crc)

    def _note_input(self, record: TensorRecord, crc: int) -> None:
        if record.tap.kind == "input":
            name = record.tap.names[0] if record.tap.names else record.tap.name
            self.inputs[name] = InputRecord(record.dtype, record.shape, crc)

    def _is_copy(self, tensor: ImportedTensor, key: tuple[Any, ...]) -> bool:
        return tensor.may_repeat and key in self._kept
