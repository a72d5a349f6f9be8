"""Tensors in files: .npy, .npz, raw .bin, Polygraphy JSON, and .txt for reading by eye."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
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

    A .npy or .bin file holds one tensor, which takes the name of the only spec, or of the spec that
    `file_name` gives this stem, or else the stem itself. .npz and Polygraphy JSON files hold names of
    their own. Two-byte void data, which is how numpy writes bfloat16, comes back as bfloat16.

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
    if suffix == ".bin":
        spec = _spec_by_stem(path, specs)
        if spec is None:
            raise TensorError(
                f"{path} is raw data: its shape and dtype must come from a spec, and none is named "
                f"'{path.stem}'.",
                hint="Name it: --input name=file.bin, with the model's input name.",
            )
        return {spec.name: read_bin(path, spec)}
    try:
        tensors = {name: _native(value) for name, value in readers[suffix](path).items()}
    except TensorError:
        raise
    except Exception as error:  # on damaged bytes numpy and zipfile raise whatever they like
        raise TensorError(f"Cannot read {path}: {str(error) or type(error).__name__}.") from error
    spec = _spec_by_stem(path, specs) if suffix == ".npy" else None
    return tensors if spec is None else {spec.name: tensors[path.stem]}


def _spec_by_stem(path: Path, specs: Sequence[TensorSpec]) -> TensorSpec | None:
    if len(specs) == 1:
        return specs[0]
    matching = (spec for spec in specs if path.stem in {spec.name, file_name(spec.name)})
    return next(matching, None)


def _native(value: NDArray[Any]) -> NDArray[Any]:
    """Return the values in this machine's byte order, two-byte void as bfloat16."""
    if value.dtype.kind == "V" and value.dtype.itemsize == 2 and value.dtype.names is None:
        return value.view(dtype_named("bfloat16").numpy)
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def _read_npy(path: Path) -> dict[str, NDArray[Any]]:
    value = np.load(path, allow_pickle=False)
    if not isinstance(value, np.ndarray):
        value.close()
        raise TypeError("it is a .npz file with the wrong ending")
    return {path.stem: value}


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    # The stream is ours: numpy leaves its own open when the archive is damaged.
    with path.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise TypeError("it is a .npy file with the wrong ending")
        with archive:
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
    """Read what `polygraphy run --save-inputs` or `--save-outputs` wrote for one iteration.

    Source: polygraphy/json/serde.py and comparator/struct.py of Polygraphy 0.53: a feed dict, a list
    of them, or RunResults (per runner, a list of iterations).
    """
    sets = list(_tensor_sets(json.loads(path.read_text(encoding="utf-8"))))
    if not sets:
        raise ValueError("it holds no Polygraphy tensors")
    if len(sets) > 1:
        raise TensorError(
            f"{path} holds {len(sets)} sets of tensors (iterations or runners); one is needed.",
            hint="Save one runner at a time, with --iterations 1 or to a folder (a name without an "
            "ending): Polygraphy then writes a file an iteration.",
        )
    return {name: _decode(value) for name, value in sets[0].items()}


def _tensor_sets(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict of encoded tensors: one a runner and iteration."""
    if isinstance(node, list):
        for child in node:
            yield from _tensor_sets(child)
    if not isinstance(node, dict):
        return
    if any(map(_is_encoded, node.values())):
        strange = [name for name, value in node.items() if not _is_encoded(value)]
        if strange:
            raise ValueError(f"'{strange[0]}' is not a tensor")
        yield node
        return
    for child in node.values():
        yield from _tensor_sets(child)


def _is_encoded(node: Any) -> bool:
    """Whether this is an encoded ndarray, torch Tensor, or LazyArray around one."""
    if not isinstance(node, dict):
        return False
    if isinstance(node.get("array", node.get("tensor")), str):
        return True
    return _is_encoded(node.get("values"))


def _decode(node: dict[str, Any]) -> NDArray[Any]:
    if "values" in node:
        return _decode(node["values"])
    encoded: str = node["array"] if "array" in node else node["tensor"]
    raw = io.BytesIO(base64.b64decode(encoded, validate=True))
    if "array" in node:
        return np.asarray(np.load(raw, allow_pickle=False))
    import torch

    tensor = torch.load(raw, map_location="cpu", weights_only=True).detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy has no such dtype: the bits go over
        return np.asarray(tensor.view(torch.int16).numpy()).view(dtype_named("bfloat16").numpy)
    return np.asarray(tensor.numpy())


def file_name(name: str) -> str:
    """Return a tensor name as a file stem: what a path cannot hold becomes `_`, nothing collides.

    Example:
        >>> file_name("logits")
        'logits'
        >>> file_name("layer1/relu out") == file_name("layer1_relu_out")
        False
    """
    is_kept = [char.isascii() and (char.isalnum() or char in "._-") for char in name]
    safe = "".join(char if keep else "_" for char, keep in zip(name, is_kept, strict=True))[:120]
    if name and safe == name and not name.startswith("."):
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
        path.write_bytes(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    elif kind == "NPY":
        with path.open("wb") as stream:
            np.save(stream, value, allow_pickle=False)
    else:
        width = value.shape[-1] if value.ndim else 1
        rows = value.reshape(-1, width) if value.size else ()
        path.write_text("".join(_text_line(row) for row in rows), encoding="utf-8")


def _text_line(row: NDArray[Any]) -> str:
    return " ".join(str(item) for item in row.tolist()) + "\n"
