"""Files that Polygraphy saves with --save-outputs or --save-inputs: JSON with the arrays in it.

Source: polygraphy/json/serde.py of Polygraphy 0.53; tried on files that it wrote.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.engines.tapping import Tap
from shipway.errors import TensorError
from shipway.tensorfiles import read_tensors
from shipway.tensors import dtype_of
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    as_array,
    guess_precision,
    natural_key,
    number_taps,
)

__all__ = ["detect_polygraphy", "read_polygraphy"]

TITLE = "Polygraphy"
_MARKER = b'"polygraphy_class"'
_CHUNK_BYTES = 1 << 20


def detect_polygraphy(path: Path) -> bool:
    """Whether this is a file of Polygraphy, or a folder of them: one for each iteration."""
    return any(map(_is_polygraphy, _files(path)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".json" else []
    return sorted(path.glob("*.json"), key=lambda one: natural_key(one.name))


def _is_polygraphy(path: Path) -> bool:
    """Look for the marker at both ends: what lies between are arrays."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_CHUNK_BYTES)
            stream.seek(max(0, path.stat().st_size - _CHUNK_BYTES))
            return _MARKER in start or _MARKER in stream.read()
    except OSError:
        return False


def read_polygraphy(path: Path, mapping: Path | None = None) -> ImportedDump:
    """Read a file of Polygraphy; of a folder, the first iteration.

    Args:
        path: The file, or the folder.
        mapping: Not used.

    Raises:
        TensorError: It is damaged, or holds several runners or iterations.
    """
    del mapping
    files = [one for one in _files(path) if _is_polygraphy(one)]
    if not files:
        return ImportedDump(TITLE, "f32", ())
    problems: dict[str, str] = {}
    tensors = []
    for name, value in read_tensors(files[0]).items():
        try:
            tensors.append(_tensor(name, as_array(value, f"'{name}'")))
        except TensorError as error:
            problems[name] = str(error)
    others = len(files) - 1
    return ImportedDump(
        title=_title(files[0]),
        precision=guess_precision(one.dtype for one in tensors),
        tensors=number_taps(tensors),
        problems=problems,
        notes={"iterations": f"the first of {len(files)} was read"} if others else {},
        repeats=others * len(tensors),
    )


def _tensor(name: str, value: NDArray[Any]) -> ImportedTensor:
    tap = Tap(name, 0, names=(name,))
    return ImportedTensor(tap, partial(_same, value), dtype_of(value.dtype).name, value.shape)


def _same(value: NDArray[Any]) -> NDArray[Any]:
    return value


def _title(path: Path) -> str:
    """Return the tool with the runner that was recorded, where the file says which."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        runner = data["lst"][0][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return TITLE
    return f"{TITLE} {runner}" if isinstance(runner, str) else TITLE
