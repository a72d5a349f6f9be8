"""Tensors in files: .npy, .npz, raw .bin, Polygraphy JSON, and .txt for reading by eye."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import TensorError, UsageError
from shipway.files import atomic_path, make_folder, output_errors
from shipway.tensors import Tensors, TensorSpec, dtype_named

__all__ = ["FORMATS", "file_name", "read_bin", "read_tensors", "save_tensors"]

FORMATS = ("NPY", "BIN", "TXT")


def read_tensors(path: Path, specs: Sequence[TensorSpec] = ()) -> dict[str, NDArray[Any]]:
    """Read every tensor of a file, by name.

    A .npy or .bin file holds one tensor, which takes the name of the only spec, or else the file's
    stem. .npz and Polygraphy JSON files hold names of their own.

    Args:
        path: A .npy, .npz, .bin or .json file.
        specs: The tensors expected. Needed for .bin, which has no shape or dtype in it.

    Raises:
        TensorError: The file is absent, truncated, holds Python objects, or is not in its format.
        UsageError: The ending is not one of the four.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".json": _read_polygraphy}
    suffix = path.suffix.lower()
    if suffix != ".bin" and suffix not in readers:
        raise UsageError(
            f"Cannot read tensors from {path}: unknown ending '{path.suffix}'.",
            hint="Give a .npy, .npz, .bin or Polygraphy .json file.",
        )
    if not path.is_file():
        raise TensorError(f"No such tensor file: {path}.")
    only = specs[0] if len(specs) == 1 else None
    if suffix == ".bin":
        spec = only or _spec_by_stem(path, specs)
        return {spec.name: read_bin(path, spec)}
    try:
        tensors = readers[suffix](path)
    except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TensorError(f"Cannot read {path}: {error}.") from error
    if suffix == ".npy" and only is not None:
        return {only.name: tensors[path.stem]}
    return tensors


def _spec_by_stem(path: Path, specs: Sequence[TensorSpec]) -> TensorSpec:
    for spec in specs:
        if path.stem in {spec.name, file_name(spec.name)}:
            return spec
    raise TensorError(
        f"{path} is raw data: its shape and dtype must come from a spec, and none is named "
        f"'{path.stem}'.",
        hint="Name it: --input name=file.bin, with the model's input name.",
    )


def _read_npy(path: Path) -> dict[str, NDArray[Any]]:
    return {path.stem: np.load(path, allow_pickle=False)}


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        if isinstance(archive, np.ndarray):
            raise TypeError("it is a .npy file with the wrong ending")
        return {name: archive[name] for name in archive.files}


def read_bin(path: Path, spec: TensorSpec) -> NDArray[Any]:
    """Read a raw little-endian file as the tensor `spec` describes.

    One free or symbolic dimension is worked out from the file's size; with more, only the first
    is, and the others count as 1.

    Raises:
        TensorError: The size of the file does not fit the spec.
    """
    dtype = dtype_named(spec.dtype).numpy
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TensorError(f"Cannot read {path}: {error.strerror}.") from error
    shape = list(spec.shape) if spec.shape is not None else [-1]
    free = [axis for axis, dim in enumerate(shape) if isinstance(dim, str) or dim == -1]
    sizes = [1 if axis in free else int(dim) for axis, dim in enumerate(shape)]
    unit_bytes = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    if free and unit_bytes and len(data) % unit_bytes == 0:
        sizes[free[0]] = len(data) // unit_bytes
    expected = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    if len(data) != expected:
        raise TensorError(
            f"{path} has {len(data)} bytes; {spec} needs {'a multiple of ' if free else ''}"
            f"{unit_bytes}.",
            hint="Check the dtype and shape the file was written with.",
        )
    return np.frombuffer(data, dtype=dtype).reshape(sizes).copy()


def _read_polygraphy(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `polygraphy run --save-inputs` or `--save-outputs` wrote (first iteration)."""
    tensors = _find_tensors(json.loads(path.read_text(encoding="utf-8")))
    if not tensors:
        raise ValueError("it holds no Polygraphy tensors")
    return tensors


def _find_tensors(node: Any) -> dict[str, NDArray[Any]]:
    if isinstance(node, dict):
        found = {key: _decode(value) for key, value in node.items() if _is_array(value)}
        if found:
            return found
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        if found := _find_tensors(child):
            return found
    return {}


def _is_array(node: Any) -> bool:
    if isinstance(node, dict) and node.get("polygraphy_class") == "LazyArray":
        return _is_array(node.get("values"))
    return isinstance(node, dict) and {"array", "polygraphy_class"} <= node.keys()


def _decode(node: dict[str, Any]) -> NDArray[Any]:
    if node["polygraphy_class"] == "LazyArray":
        return _decode(node["values"])
    raw = base64.b64decode(node["array"], validate=True)
    return np.asarray(np.load(io.BytesIO(raw), allow_pickle=False))


def file_name(name: str) -> str:
    """Return a tensor name as a file stem: what a path cannot hold becomes `_`, nothing collides.

    Example:
        >>> file_name("logits")
        'logits'
        >>> file_name("layer1/relu out") == file_name("layer1_relu_out")
        False
    """
    safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)[:120]
    if safe == name and not name.startswith("."):
        return name
    import hashlib

    return f"{safe.lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def save_tensors(tensors: Tensors, folder: Path, *, format_name: str = "NPY") -> list[Path]:
    """Write each tensor to a file of its own in `folder` and return the paths.

    Args:
        tensors: Tensors by name; a name that no file can have is changed by `file_name`.
        folder: Created if absent.
        format_name: "NPY", "BIN" (raw little-endian values) or "TXT" (one row of the last axis a
            line, enough digits to read the same value back).

    Raises:
        UsageError: Unknown format.
        OutputError: The folder cannot be written.
    """
    kind = format_name.upper()
    if kind not in FORMATS:
        raise UsageError(
            f"Unknown output format '{format_name}'.", hint=f"One of: {', '.join(FORMATS)}."
        )
    make_folder(folder)
    paths = []
    for name, value in tensors.items():
        path = folder / f"{file_name(name)}.{kind.lower()}"
        with atomic_path(path) as temporary, output_errors(path):
            _write(temporary, np.asarray(value), kind)
        paths.append(path)
    return paths


def _write(path: Path, value: NDArray[Any], kind: str) -> None:
    if kind == "BIN":
        path.write_bytes(np.ascontiguousarray(value).tobytes())
    elif kind == "NPY":
        with path.open("wb") as stream:
            np.save(stream, value, allow_pickle=False)
    else:
        rows = value.reshape(-1, value.shape[-1] if value.ndim else 1)
        lines = (" ".join(str(item) for item in row.tolist()) for row in rows)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
