"""Debug tensors of TensorRT's trtexec, and the outputs that it exports.

`--saveAllDebugTensors=summary,numpy,raw,string` writes into the current folder, for each tensor and
run, `{NNNN}_{name}.npy`, `.raw` and `.str`, NNNN counting through all of them, the name with what a
file name cannot hold as `_` and shortened from 150 characters on; and `tensor_summary.json` with
name, shape, type, statistics and files of each. `--saveDebugTensors=name:file` writes raw files, that
only the summary can tell the shape of. numpy files have bf16 and fp8 values as float32.
`--exportOutput=file.json` writes the outputs, each value with 6 digits.

Source: debugTensorWriter.cpp, sampleReporting.cpp and common.h of NVIDIA/TensorRT (the open part,
10.12 and later). The options are documented by `trtexec --help`; the names and contents of the
files are not documented, they are as that code writes them. Not tried on files of a device. Taken
to be so: exported values that are all whole are still floats.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.tapping import Tap
from shipway.errors import TensorError
from shipway.tensorfiles import read_bin
from shipway.tensors import TensorSpec, dtype_named
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    finite_facts,
    guess_precision,
    load_npy,
    npy_facts,
    number_taps,
    sizes_in_json,
)

__all__ = ["detect_trtexec", "read_trtexec"]

TITLE = "trtexec"
_SUMMARY = "tensor_summary.json"
_FILE = re.compile(
    r"(?P<count>\d{4,})_(?P<name>.+?)(?P<changed>_to_float|_to_int8)?\.(?P<kind>npy|raw|str)"
)
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_WORD = re.compile(r"(?<=[\s,\[])(-?)(nan|inf)(?=[\s,\]])")
_NUMPY_WORDS = {"nan": "NaN", "inf": "Infinity"}


def detect_trtexec(path: Path) -> bool:
    """Whether this is a folder of debug tensors, its summary, or a file of exported outputs."""
    if path.is_dir():
        first = any(_FILE.fullmatch(one.name) for one in path.glob("0000_*"))
        return (path / _SUMMARY).is_file() or first
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8") as stream:
            start = stream.read(4096)
    except (OSError, UnicodeDecodeError):
        return False
    exported = '"name"' in start and '"dimensions"' in start
    return path.name == _SUMMARY or exported or "Tensor Summary Report" in start


def read_trtexec(path: Path, mapping: Path | None = None) -> ImportedDump:
    """Look through debug tensors or exported outputs.

    Args:
        path: The folder trtexec ran in, its `tensor_summary.json`, or a file of `--exportOutput`.
        mapping: Not used.

    Raises:
        TensorError: A file of exported outputs is damaged.
    """
    del mapping
    if path.is_file() and path.name != _SUMMARY:
        return _read_outputs(path)
    folder = path if path.is_dir() else path.parent
    problems: dict[str, str] = {}
    if (folder / _SUMMARY).is_file():
        found = list(_from_summary(folder, problems))
    else:
        found = list(_from_names(folder, problems))
    first, repeats = _first_run(found)
    notes = {"repeats": _REPEATED} if repeats else {}
    return ImportedDump(
        title=f"{TITLE} debug tensors",
        precision=guess_precision(one.dtype for one in first),
        tensors=number_taps(first),
        problems=problems,
        notes=notes,
        repeats=repeats,
    )


_REPEATED = (
    "trtexec ran the engine several times; the first run is kept. "
    "For one run: --iterations=1 --warmUp=0 --duration=0"
)


def _first_run(found: list[ImportedTensor]) -> tuple[list[ImportedTensor], int]:
    seen: Counter[str] = Counter()
    first = []
    for tensor in found:
        if not seen[tensor.tap.name]:
            first.append(tensor)
        seen[tensor.tap.name] += 1
    return first, len(found) - len(first)


def _from_summary(folder: Path, problems: dict[str, str]) -> Iterator[ImportedTensor]:
    for number, entry in enumerate(_summary_entries(folder / _SUMMARY, problems), 1):
        name, kind, shape = entry.get("name"), entry.get("type"), sizes_in_json(entry.get("shape"))
        if not isinstance(name, str) or shape is None:
            problems[f"{_SUMMARY}, tensor {number}"] = "it has no name or no shape"
            continue
        dtype = _DTYPES.get(str(kind), "")
        load = _loader(folder, _texts(entry.get("files")), dtype, shape)
        if load is None and not dtype:
            problems[name] = f"{kind} values, which Shipway does not carry"
            continue
        yield ImportedTensor(
            Tap(name, 0, names=(name,)), load, dtype, shape, _facts(entry.get("statistics"))
        )


def _facts(numbers: Any) -> dict[str, float]:
    if not isinstance(numbers, dict):
        return {}
    return finite_facts(min=numbers.get("min"), max=numbers.get("max"), mean=numbers.get("avg"))


def _texts(files: Any) -> dict[str, str]:
    if not isinstance(files, dict):
        return {}
    return {kind: name for kind, name in files.items() if isinstance(name, str) and name}


def _summary_entries(path: Path, problems: dict[str, str]) -> list[Mapping[str, Any]]:
    """Return the entries of a summary; of one that was cut short, those before the cut."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems[path.name] = f"it cannot be read: {error.strerror}"
        return []
    start = re.search(r'"tensors"\s*:\s*\[', text)
    entries: list[Mapping[str, Any]] = []
    decoder, position = json.JSONDecoder(), start.end() if start else len(text)
    while (found := re.compile(r"[\s,]*(?=\{)").match(text, position)) is not None:
        try:
            entry, position = decoder.raw_decode(text, found.end())
        except ValueError:
            break
        entries.append(entry)
    if start is None or not re.compile(r"\s*\]\s*\}\s*").fullmatch(text, position):
        problems[path.name] = f"it is damaged or cut off after {len(entries)} tensors"
    return entries


def _loader(folder: Path, files: Mapping[str, str], dtype: str, shape: tuple[int, ...]) -> Any:
    """Return what reads the best of the files there are: numpy, then raw bytes."""
    names = {kind: Path(name.replace("\\", "/")) for kind, name in files.items()}
    if "numpy" in names:
        return partial(_load_numpy, folder / names["numpy"].name, dtype)
    raw = names.get("raw", names.get("assigned"))
    if raw is None or not dtype:
        return None
    path = raw if raw.is_absolute() and raw.is_file() else folder / raw.name
    return partial(_load_raw, path, TensorSpec(path.stem, dtype, shape))


def _load_numpy(path: Path, dtype: str) -> NDArray[Any]:
    """Read a numpy file; what it holds as float32 because numpy has no such type is made that again."""
    value = load_npy(path)
    if dtype == "bfloat16" and value.dtype == np.float32:
        return value.astype(dtype_named(dtype).numpy)  # exact: it was one
    return value


def _load_raw(path: Path, spec: TensorSpec) -> NDArray[Any]:
    if not path.is_file():
        raise TensorError(f"There is no {path}.")
    return read_bin(path, spec)


def _from_names(folder: Path, problems: dict[str, str]) -> Iterator[ImportedTensor]:
    matches = ((path, _FILE.fullmatch(path.name)) for path in folder.iterdir() if path.is_file())
    named = [(path, match) for path, match in matches if match is not None]
    with_values = {match["count"] for _, match in named if match["kind"] == "npy"}
    for path, match in sorted(named, key=lambda one: (int(one[1]["count"]), one[0].name)):
        if match["kind"] == "npy":
            dtype, shape = npy_facts(path)
            tap = Tap(match["name"], 0, names=(match["name"],))
            yield ImportedTensor(tap, partial(load_npy, path), dtype, shape or None)
        elif match["count"] not in with_values:
            problems[path.name] = (
                f"without {_SUMMARY} its dtype and shape are not known; "
                "run trtexec with --saveAllDebugTensors=summary,raw, or with numpy"
                if match["kind"] == "raw"
                else "a text with 7 digits, for reading; run trtexec with numpy"
            )


def _read_outputs(path: Path) -> ImportedDump:
    """Read `--exportOutput`: [{"name", "dimensions": "(1, 3)" or "1x3", "values": [...]}]."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(_WORD.sub(lambda one: one[1] + _NUMPY_WORDS[one[2]], text))
    except OSError as error:
        raise TensorError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise TensorError(f"{path} is damaged or cut off: {error}.") from error
    problems: dict[str, str] = {}
    tensors = []
    for entry in data if isinstance(data, list) else ():
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            problems[path.name] = "an entry has no name"
            continue
        shape = tuple(int(size) for size in re.findall(r"\d+", str(entry.get("dimensions", ""))))
        load = partial(_exported, name, entry.get("values"), shape)
        tap = Tap(name, 0, kind="output", names=(name,))
        tensors.append(ImportedTensor(tap, load, "float32", shape))
    return ImportedDump(
        title=f"{TITLE} outputs",
        precision="f32",
        tensors=number_taps(tensors),
        problems=problems,
        notes={
            "digits": "values are written with 6 digits: errors below 1e-6 are not the engine's"
        },
    )


def _exported(name: str, values: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        array = np.asarray(values, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise TensorError(f"'{name}' holds something else than numbers.") from error
    if array.size != math.prod(shape):
        raise TensorError(f"'{name}' has {array.size} values for the shape {list(shape)}.")
    return array.astype(np.float32).reshape(shape)
