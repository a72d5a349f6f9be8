"""Ascend dumps: the folder that a model compiled with CANN leaves where dumping is switched on.

`{dump_path}/{time}/{device}/{model}/{model id}/{run}/` holds a file for each operator,
`{op type}.{op name}.{task}[.{stream}].{time}`, see `ascend_file`. With `"dump_data": "stats"` there
is a .csv file in its place, and `msaccucmp convert` makes .npy files of it; all three are read.

Source: the dump section of CANN's developer guide; reg_manager.py and mapping.py of msaccucmp in
mindstudio-probe 26.2.0. Written from these; not tried on files of a device.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from shipway.errors import TensorError, UsageError
from shipway.trace.importing.ascend_file import AscendTensor, read_ascend_file
from shipway.trace.importing.ascend_statistics import read_statistics
from shipway.trace.importing.ascend_taps import Place, describe
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    guess_precision,
    load_npy,
    npy_facts,
    number_taps,
)
from shipway.trace.importing.maps import read_maps
from shipway.trace.importing.origins import Origins

__all__ = ["detect_ascend", "read_ascend"]

TITLE = "Ascend dump"
_NAME = re.compile(
    r"(?P<op_type>[\w-]+)\.(?P<op_name>[\w-]+)\.(?P<task>\d+)(?:\.(?P<stream>\d+))?\.(?P<time>\d{1,255})"
    r"(?:\.\d+\.\d+\.\d+)?(?:\.\d+)?"
    r"(?P<rest>\.csv|\.(?P<side>input|output)\.(?P<index>\d+)(?:\.[\dx]*)?\.npy)?"
)
_LONG_NAME = re.compile(r"\d+(?:\.(?:csv|npy))?")
_MAPPING, _OVERFLOW = "mapping.csv", "Opdebug."
_MOST_LOOKED_AT = 20_000


class _Named(NamedTuple):
    """A file of the dump and what its name says."""

    path: Path
    op_type: str
    op_name: str
    task: int
    time: int
    side: str
    position: int

    @property
    def order(self) -> tuple[int, int, str, bool, int]:
        """Where it comes in the order of execution."""
        return self.time, self.task, self.op_name, self.side == "output", self.position


def detect_ascend(path: Path) -> bool:
    """Whether this is an Ascend dump, a folder above one, or a file of one."""
    if path.is_file():
        return not _is_npy(path) and _parse(path, {}) is not None
    files = islice((one for one in path.rglob("*") if one.is_file()), _MOST_LOOKED_AT)
    return path.is_dir() and any(_is_dump(one) for one in files)


def read_ascend(path: Path, mapping: Path | None = None) -> ImportedDump:
    """Look through an Ascend dump.

    Args:
        path: The dump of one run, a folder with only one in it, or one file.
        mapping: Names of the original model, see `maps.read_maps`.

    Raises:
        UsageError: There are dumps of several runs below the folder; or the map cannot be read.
    """
    maps = read_maps(mapping)
    files, problems = _look(path)
    tensors: list[ImportedTensor] = []
    for one in sorted(files, key=lambda one: one.order):
        try:
            tensors.extend(_read_file(one, maps, problems))
        except TensorError as error:
            problems[one.path.name] = str(error)
    return ImportedDump(
        title=TITLE,
        precision=guess_precision(one.dtype for one in tensors if one.tap.kind != "input"),
        tensors=number_taps(tensors),
        problems=problems,
        notes=_notes(maps),
    )


def _notes(maps: Sequence[Origins]) -> dict[str, str]:
    if any(one.is_complete for one in maps):
        return {}
    return {
        "map": "none was given: fused operators are known by the compiler's names alone; "
        "give the JSON of the compiled model with --map"
    }


def _look(path: Path) -> tuple[list[_Named], dict[str, str]]:
    """Return the files of the dump, and why others are none."""
    if path.is_file():
        named = _parse(path, {})
        return ([] if named is None else [named]), {}
    folders = sorted({one.parent for one in path.rglob("*") if one.is_file() and _is_dump(one)})
    if len(folders) > 1:
        raise UsageError(
            f"{path} holds the dumps of {len(folders)} runs.",
            hint=f"Give one of them: {folders[0]}, {folders[1]}{', ...' if folders[2:] else ''}.",
        )
    return _look_in(folders[0]) if folders else ([], {})


def _is_dump(path: Path) -> bool:
    if path.name == _MAPPING:
        return any(_NAME.fullmatch(name) for name in _read_mapping(path, {}).values())
    return _parse(path, {}) is not None or path.name.startswith(_OVERFLOW)


def _look_in(folder: Path) -> tuple[list[_Named], dict[str, str]]:
    files: list[_Named] = []
    problems: dict[str, str] = {}
    real_names = _read_mapping(folder / _MAPPING, problems)
    for path in sorted(folder.iterdir()):
        if path.name == _MAPPING or path.name.startswith(".") or path.is_dir():
            continue
        if path.name.startswith(_OVERFLOW):
            problems[path.name] = (
                "it says where an operator overflowed, and holds no tensor; "
                "`msaccucmp overflow` of CANN explains it"
            )
        elif (named := _parse(path, real_names)) is not None:
            files.append(named)
        elif _LONG_NAME.fullmatch(path.name):
            problems[path.name] = f"its name was too long, and {_MAPPING} does not say what it was"
        else:
            problems[path.name] = "its name is not that of a dump file"
    return files, problems


def _parse(path: Path, real_names: Mapping[str, str]) -> _Named | None:
    name = real_names.get(path.name, path.name)
    match = _NAME.fullmatch(name)
    if match is None or name.startswith(_OVERFLOW):
        return None
    return _Named(
        path,
        match["op_type"],
        match["op_name"],
        int(match["task"]),
        int(match["time"]),
        match["side"] or "",
        int(match["index"] or 0),
    )


def _read_mapping(path: Path, problems: dict[str, str]) -> dict[str, str]:
    """Return the names that were too long for a file, by the digits that stand for them."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems[path.name] = f"it cannot be read: {error}"
        return {}
    damaged = [row for row in rows if row and len(row) != 2]
    if damaged:
        problems[path.name] = f"{len(damaged)} lines of it are not `digits,name`"
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _is_npy(path: Path) -> bool:
    return path.suffix == ".npy"


def _read_file(
    named: _Named, maps: Sequence[Origins], problems: dict[str, str]
) -> Iterator[ImportedTensor]:
    if _is_npy(named.path):
        yield _converted(named, maps)
    elif named.path.suffix == ".csv":
        rows, damaged = read_statistics(named.path)
        problems.update(damaged)
        for row in rows:
            place = Place(named.op_type, named.op_name, row.side, row.position, row.format_name)
            tap, is_input = describe(place, maps), row.side == "input"
            yield ImportedTensor(tap, None, row.dtype, row.shape, row.facts, may_repeat=is_input)
    else:
        header = read_ascend_file(named.path)
        for tensor in header.tensors:
            yield _dumped(named, header.op_name or named.op_name, tensor, maps)


def _converted(named: _Named, maps: Sequence[Origins]) -> ImportedTensor:
    place = Place(named.op_type, named.op_name, named.side, named.position)
    dtype, shape = npy_facts(named.path)
    return ImportedTensor(
        describe(place, maps),
        partial(load_npy, named.path),
        dtype,
        shape or None,
        may_repeat=named.side == "input",
    )


def _dumped(
    named: _Named, op_name: str, tensor: AscendTensor, maps: Sequence[Origins]
) -> ImportedTensor:
    place = Place(
        named.op_type,
        op_name,
        tensor.side,
        tensor.index,
        tensor.format_name,
        tensor.origin,
        tensor.origin_index,
    )
    return ImportedTensor(
        describe(place, maps),
        partial(tensor.load, named.path),
        tensor.dtype,
        tensor.original or tensor.shape,
        may_repeat=tensor.side == "input",
    )
