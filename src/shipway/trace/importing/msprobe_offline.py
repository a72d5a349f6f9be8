"""Dumps that msprobe and msit make of an ONNX model: every tensor of ONNX Runtime in a .npy file.

`dump_data/onnx/{node}.{output}.{time}.npy`, and `input_{node}.{input}.{time}.npy`, the node's name
with `/` and `.` as `_`. Names that are too long are digits, and `mapping.csv` says what for. Beside
it lies `model/new_{model}.onnx`, the model that was run: it tells which value an output of a node is.

Source: onnx_dump_data.py and dump_data.py of mindstudio-probe 26.2.0; tried on a dump that
`msprobe offline_dump` wrote.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from shipway.engines.tapping import Tap
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    guess_precision,
    load_npy,
    npy_facts,
    number_taps,
)
from shipway.trace.importing.maps import read_maps
from shipway.trace.importing.origins import Origins, chain, node_output_names

__all__ = ["is_offline", "needs_model", "offline_folder", "read_offline"]

TITLE = "msprobe ONNX dump"
_NAME = re.compile(r"(?P<input>input_)?(?P<node>[\w-]+)\.(?P<index>\d+)\.(?P<time>\d{13,})\.npy")
_MAPPING = "mapping.csv"
_MOST_LOOKED_AT = 2000


class _Named(NamedTuple):
    path: Path
    node: str
    position: int
    time: int
    is_input: bool


def offline_folder(path: Path) -> Path:
    """Return the folder with the files: this one, or `dump_data/onnx` in it or in its only folder."""
    below = (path / "dump_data" / "onnx", *path.glob("*/dump_data/onnx"))
    return next((one for one in below if one.is_dir()), path)


def is_offline(path: Path) -> bool:
    """Whether this is such a folder: every .npy file in it is named that way."""
    folder = offline_folder(path)
    if not folder.is_dir():
        return False
    files = list(islice(folder.glob("*.npy"), _MOST_LOOKED_AT))
    return bool(files) and all(_NAME.fullmatch(one.name) or one.stem.isdecimal() for one in files)


def needs_model(path: Path) -> bool:
    """Whether this is such a folder without the model beside it."""
    return is_offline(path) and _own_model(offline_folder(path)) is None


def read_offline(folder: Path, mapping: Path | None = None) -> ImportedDump:
    """Look through such a folder.

    Args:
        folder: The files.
        mapping: The ONNX model; None takes the one that msprobe left beside the dump.

    Raises:
        UsageError: The map cannot be read.
    """
    problems: dict[str, str] = {}
    maps = read_maps(mapping or _own_model(folder))
    files = sorted(_look(folder, problems), key=lambda one: (one.time, one.position))
    tensors = [_tensor(one, maps) for one in files]
    return ImportedDump(
        title=TITLE,
        precision=guess_precision(one.dtype for one in tensors if not one.may_repeat),
        tensors=number_taps(tensors),
        problems=problems,
    )


def _own_model(folder: Path) -> Path | None:
    models = (
        list((folder.parents[1] / "model").glob("new_*.onnx")) if len(folder.parents) > 1 else []
    )
    return models[0] if len(models) == 1 else None


def _look(folder: Path, problems: dict[str, str]) -> list[_Named]:
    files = []
    real_names = _read_mapping(folder / _MAPPING, problems)
    for path in sorted(folder.iterdir()):
        if path.name == _MAPPING or path.name.startswith("."):
            continue
        match = _NAME.fullmatch(real_names.get(path.name, real_names.get(path.stem, path.name)))
        if match is None or not path.is_file():
            problems[path.name] = "its name is not that of a dumped tensor"
            continue
        files.append(
            _Named(
                path,
                match["node"],
                int(match["index"]),
                int(match["time"]),
                match["input"] is not None,
            )
        )
    return files


def _read_mapping(path: Path, problems: dict[str, str]) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row[0]: row[1] for row in csv.reader(stream) if len(row) == 2}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems[path.name] = f"it cannot be read: {error}"
        return {}


def _tensor(named: _Named, maps: Sequence[Origins]) -> ImportedTensor:
    side = "input" if named.is_input else "output"
    tap = Tap(f"{named.node}:{side}:{named.position}", 0)
    if not named.is_input:
        tap = replace(tap, names=node_output_names(named.node, named.position))
        origin = chain(maps, named.node, named.position)
        tap = tap if origin is None else origin.onto(tap)
    dtype, shape = npy_facts(named.path)
    return ImportedTensor(
        tap, partial(load_npy, named.path), dtype, shape or None, may_repeat=named.is_input
    )
