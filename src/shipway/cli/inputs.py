"""What a model runs on: files named by `--input`, read into sets of feeds."""

from __future__ import annotations

import logging
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
_IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LOG = logging.getLogger("shipway")


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


def read_inputs(flags: InputFlags, specs: Sequence[TensorSpec], preprocess: str) -> list[InputSet]:
    """Read the files that `--input` names into input sets, one a file of the longest folder.

    Raises:
        UsageError: A file is not given in a way that says which input it is.
        TensorError: A file does not read, or folders have different numbers of files.
    """
    if flags.dim:
        raise UsageError(
            "--dim sizes random inputs; the files of --input have their own sizes.",
            hint="Leave one of the two out.",
        )
    by_input: dict[str, list[Path]] = {}
    for item in flags.input:
        name, path = _split(item, specs)
        if name in by_input:
            raise UsageError(
                f"--input {item}: '{name or 'the input'}' is given twice.",
                hint="Put several files of one input into a folder and name that.",
            )
        by_input[name] = _files(path)
    counts = {len(files) for files in by_input.values()}
    if len(counts) > 1:
        found = ", ".join(f"{name or 'input'}: {len(files)}" for name, files in by_input.items())
        raise TensorError(f"The inputs have different numbers of files: {found}.")
    rows = list(zip(*by_input.values(), strict=True))
    names = _set_names([row[0] for row in rows])
    sets = []
    for set_name, row in zip(names, rows, strict=True):
        feeds: dict[str, NDArray[Any]] = {}
        for name, file in zip(by_input, row, strict=True):
            feeds |= _read(file, name, specs, preprocess)
        sets.append(InputSet(set_name, feeds))
    return sets


def _set_names(files: Sequence[Path]) -> list[str]:
    """Name each set by its file: without the ending where that is enough to tell them apart."""
    if len(files) == 1:
        return [""]
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else [file.name for file in files]


def _split(item: str, specs: Sequence[TensorSpec]) -> tuple[str, Path]:
    names = [spec.name for spec in specs]
    name, equals, path = item.partition("=")
    if equals and name in names:
        return name, Path(path)
    if equals and not Path(item).exists():
        raise UsageError(f"The model has no input '{name}'.", hint=f"Inputs: {', '.join(names)}.")
    path_only = Path(item)
    by_stem = path_only.stem if path_only.stem in names else ""
    return (names[0] if len(names) == 1 else by_stem), path_only


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise TensorError(f"No such input file: {path}.")
    if not path.is_dir():
        return [path]
    inside = sorted(file for file in path.iterdir() if file.name[0] != ".")
    files = [file for file in inside if file.suffix.lower() in _TENSORS | _IMAGES]
    if not files:
        raise TensorError(f"There is no tensor file and no image in {path}.")
    if left := [file.name for file in inside if file not in files]:
        _LOG.warning("left out of %s: %s", path, ", ".join(left))
    return files


def _read(
    file: Path, name: str, specs: Sequence[TensorSpec], preprocess: str
) -> dict[str, NDArray[Any]]:
    wanted = [spec for spec in specs if spec.name == name] or list(specs)
    nameless = file.suffix.lower() in {".npy", ".bin"}
    if len(wanted) > 1 and nameless and file.stem not in {spec.name for spec in specs}:
        raise UsageError(f"Which input is {file}?", hint=f"Write --input NAME={file}")
    if file.suffix.lower() in _TENSORS:
        return read_tensors(file, wanted)
    if len(wanted) != 1:
        raise UsageError(f"Which input is {file}?", hint=f"Write --input NAME={file}")
    image = parse_preprocess(preprocess).apply(load_image(file))
    return {wanted[0].name: np.ascontiguousarray(image[None])}
