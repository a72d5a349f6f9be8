"""What a model runs on: files named by `--input`, read into sets of feeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from shipway.cli.flags import Many
from shipway.errors import TensorError, UsageError
from shipway.evaluate.preprocess import load_image, parse_preprocess
from shipway.tensorfiles import read_tensors
from shipway.tensors import Tensors, TensorSpec

__all__ = ["InputFlags", "InputSet", "read_inputs"]

_TENSORS = frozenset({".npy", ".npz", ".bin", ".json"})


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class InputFlags:
    """What a model runs on.

    Args:
        input: name=file, or just a file where that is clear: .npy, .npz, .bin, Polygraphy .json,
            an image, or a folder of them. Again for each input.
        dim: Size of a dynamic dimension for random inputs, e.g. batch=4. Again for each.
        seed: Seed of random inputs.
    """

    input: Many = ()
    dim: Many = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class InputSet:
    """The inputs of one run, and a name for its outputs."""

    name: str
    feeds: Tensors


def read_inputs(
    items: Sequence[str], specs: Sequence[TensorSpec], preprocess: str
) -> list[InputSet]:
    """Read the files that `--input` names into input sets, one a file of the longest folder.

    Raises:
        UsageError: A file is not given in a way that says which input it is.
        TensorError: A file does not read, or folders have different numbers of files.
    """
    by_input: dict[str, list[Path]] = {}
    for item in items:
        name, path = _split(item, specs)
        by_input[name] = _files(path)
    counts = {len(files) for files in by_input.values()}
    if len(counts) > 1:
        found = ", ".join(f"{name or 'input'}: {len(files)}" for name, files in by_input.items())
        raise TensorError(f"The inputs have different numbers of files: {found}.")
    several = max(counts) > 1
    sets = []
    for files in zip(*by_input.values(), strict=True):
        feeds: dict[str, NDArray[Any]] = {}
        for name, file in zip(by_input, files, strict=True):
            feeds |= _read(file, name, specs, preprocess)
        sets.append(InputSet(files[0].stem if several else "", feeds))
    return sets


def _split(item: str, specs: Sequence[TensorSpec]) -> tuple[str, Path]:
    names = [spec.name for spec in specs]
    name, equals, path = item.partition("=")
    if equals and name in names:
        return name, Path(path)
    if equals and not Path(item).exists():
        raise UsageError(f"The model has no input '{name}'.", hint=f"Inputs: {', '.join(names)}.")
    return (names[0] if len(names) == 1 else ""), Path(item)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise TensorError(f"No such input file: {path}.")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
    if not files:
        raise TensorError(f"The input folder {path} is empty.")
    return files


def _read(
    file: Path, name: str, specs: Sequence[TensorSpec], preprocess: str
) -> dict[str, NDArray[Any]]:
    wanted = [spec for spec in specs if spec.name == name] or list(specs)
    if file.suffix.lower() in _TENSORS:
        return read_tensors(file, wanted)
    if len(wanted) != 1:
        raise UsageError(f"Which input is {file}?", hint=f"Write --input NAME={file}")
    image = parse_preprocess(preprocess).apply(load_image(file))
    return {wanted[0].name: np.ascontiguousarray(image[None])}
