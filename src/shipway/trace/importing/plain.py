"""Tensor files of no particular tool: a folder of .npy, .npz and .bin, or one file with several."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.engines.tapping import Tap
from shipway.errors import TensorError
from shipway.tensorfiles import file_name, read_tensors
from shipway.tensors import Tensors, TensorSpec

__all__ = ["read_plain"]

_TENSORS = frozenset({".npy", ".npz", ".bin", ".json"})
_NAMELESS = frozenset({".npy", ".bin"})


def read_plain(
    path: Path,
    specs: Sequence[TensorSpec] = (),
    problems: MutableMapping[str, str] | None = None,
) -> Iterator[tuple[Tap, NDArray[Any]]]:
    """Yield the tensors of a folder or a file, one file in memory at a time.

    The order is that of the file names, "layer2" before "layer10"; inside a .npz or a Polygraphy
    JSON file it is that of the file. A .npy or .bin file is called by its stem; what a file with
    names of its own calls as another file did is called "stem/name".

    Args:
        path: A folder, or a .npy, .npz, .bin or Polygraphy .json file.
        specs: Name, dtype and shape of each .bin file.
        problems: Receives each file that is left out, with the reason; without it, a damaged file
            is an error, and files of other kinds are passed over.

    Raises:
        TensorError: No such file or folder, no tensor in it, or a file is damaged.
    """
    found = False
    names: set[str] = set()
    for file in _files(path, problems):
        try:
            tensors = _read(file, specs)
        except TensorError as error:
            if problems is None:
                raise
            problems[file.name] = str(error)
            continue
        for name, value in tensors.items():
            own = name if name not in names else f"{file.stem}/{name}"
            yield Tap(own, len(names)), value
            names.add(own)
            found = True
    if not found:
        why = next(iter((problems or {}).values()), "")
        raise TensorError(
            f"There is no tensor that can be read in {path}{': ' if why else '.'}{why}",
            hint="A dump of tensors is a folder of .npy, .npz or .bin files, or one such file.",
        )


def _files(path: Path, problems: MutableMapping[str, str] | None) -> list[Path]:
    if not path.exists():
        raise TensorError(f"There is no {path}.", hint="Name a folder, or a tensor file.")
    if not path.is_dir():
        return [path]
    inside = sorted(path.iterdir(), key=_natural)
    files = [one for one in inside if one.is_file() and one.suffix.lower() in _TENSORS]
    if problems is not None:
        for one in inside:
            if one not in files:
                kind = "a folder" if one.is_dir() else "neither .npy, .npz, .bin nor .json"
                problems[one.name] = kind
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _read(file: Path, specs: Sequence[TensorSpec]) -> Tensors:
    if file.suffix.lower() not in _NAMELESS:
        return read_tensors(file)
    mine = [spec for spec in specs if file.stem in {spec.name, file_name(spec.name)}]
    if not mine and file.suffix.lower() == ".bin":
        raise TensorError(
            f"{file} is raw data, and no spec says which dtype and shape it has.",
            hint=f'Write a map, {{"{file.stem}": "float32[1,3,224,224]"}}, and give it with --map.',
        )
    return read_tensors(file, mine[:1])
