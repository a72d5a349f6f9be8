"""Tensor files of no particular tool, as a dump: a folder of .npy, .npz and .bin, or one file.

The names of the tensors are the stems of the files, and count as names in the model. For .bin files
the map says what is in them: a JSON file such as {"logits": "float32[1,1000]"}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.errors import TensorError, UsageError
from shipway.tensors import TensorSpec, dtype_of, parse_spec
from shipway.trace.importing.dump import (
    ImportedDump,
    ImportedTensor,
    as_array,
    guess_precision,
    npy_facts,
)
from shipway.trace.importing.origins import read_map
from shipway.trace.importing.plain import read_plain

__all__ = ["detect_plain", "read_plain_dump"]

TITLE = "tensor files"
_SUFFIXES = frozenset({".npy", ".npz", ".bin"})


def detect_plain(path: Path) -> bool:
    """Whether this is such a file, or a folder with one in it."""
    return any(map(_is_tensor_file, path.iterdir() if path.is_dir() else (path,)))


def _is_tensor_file(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def read_plain_dump(path: Path, mapping: Path | None = None) -> ImportedDump:
    """Look through a folder, or a file.

    Args:
        path: The folder or file.
        mapping: Dtype and shape of each .bin file; None where there are none.

    Raises:
        UsageError: The map cannot be read.
    """
    specs = [] if mapping is None else _read_specs(mapping)
    problems: dict[str, str] = {}
    files = path.glob("*.npy") if path.is_dir() else (path,)
    dtypes = [*(npy_facts(one)[0] for one in files), *(spec.dtype for spec in specs)]
    return ImportedDump(
        title=TITLE,
        precision=guess_precision(dtypes),
        tensors=_tensors(path, specs, problems),
        problems=problems,
    )


def _tensors(
    path: Path, specs: list[TensorSpec], problems: dict[str, str]
) -> Iterator[ImportedTensor]:
    try:
        for tap, value in read_plain(path, specs, problems):
            named = replace(tap, names=(tap.name,))
            try:
                dtype = dtype_of(as_array(value, f"'{tap.name}'").dtype).name
            except TensorError as error:
                problems[tap.name] = str(error)
                continue
            yield ImportedTensor(named, partial(_same, value), dtype, value.shape)
    except TensorError as error:
        if not problems:  # else it repeats what they say
            problems[path.name] = str(error)


def _same(value: NDArray[Any]) -> NDArray[Any]:
    return value


def _read_specs(path: Path) -> list[TensorSpec]:
    data = read_map(path)
    hint = (
        'Write {"name": "float32[1,3,224,224]"}: the stem of each .bin file, its dtype and shape.'
    )
    if not isinstance(data, dict) or not all(isinstance(one, str) for one in data.values()):
        raise UsageError(f"{path} does not say what is in .bin files.", hint=hint)
    try:
        return [replace(parse_spec(text), name=str(name)) for name, text in data.items()]
    except (UsageError, TensorError) as error:
        raise UsageError(
            f"{path} does not say what is in .bin files: {error}", hint=hint
        ) from error
