"""What an importer finds in another tool's dump: tensors to load, and what could not be read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.tapping import Tap
from shipway.errors import TensorError
from shipway.tensorfiles import read_tensors
from shipway.tensors import dtype_named, dtype_of

__all__ = [
    "ImportedDump",
    "ImportedTensor",
    "Loader",
    "as_array",
    "finite_facts",
    "guess_precision",
    "load_npy",
    "load_torch",
    "natural_key",
    "npy_facts",
    "number_taps",
    "sizes_in_json",
]

Loader = Callable[[], NDArray[Any]]
_LARGEST_SIZE = (1 << 63) - 1
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


@dataclass(frozen=True, slots=True, eq=False)
class ImportedTensor:
    """One tensor of a dump.

    Args:
        tap: What is known of it.
        load: Reads its values, and raises TensorError where they are damaged; None where the tool
            kept numbers only.
        dtype: Element type by Shipway's name; "" where only loading tells.
        shape: Sizes; None where only loading tells.
        facts: Numbers the tool wrote of it: any of `min`, `max`, `mean`, `l2`, `nan_count`,
            `inf_count`. All finite.
        may_repeat: It may be the same bytes as a tensor that came before it: what an operator
            reads is what another one wrote. Such a copy is not kept.
    """

    tap: Tap
    load: Loader | None
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    may_repeat: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ImportedDump:
    """A dump that was looked through; its values are not loaded yet.

    Args:
        title: The tool that wrote it, e.g. "Ascend dump".
        precision: "f32", "bf16" or "f16": the type most of its floats have. A guess.
        tensors: Its tensors in the order of execution; no two have the same name. Can be gone
            through once.
        problems: What was skipped, a file or a tensor, with the reason. More may come up while the
            tensors are gone through.
        notes: What a reader should know of the dump as a whole, by subject.
        repeats: How many tensors were found again, from a later run of the model, and left out.
    """

    title: str
    precision: str
    tensors: Iterable[ImportedTensor]
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 0


def number_taps(tensors: Iterable[ImportedTensor]) -> tuple[ImportedTensor, ...]:
    """Give each tensor its place in the order of execution, and a name of its own.

    A name that came before gets `#2`, `#3` and so on behind it; the name itself stays among the
    tap's names.
    """
    return tuple(_numbered(tensors))


def _numbered(tensors: Iterable[ImportedTensor]) -> Iterator[ImportedTensor]:
    taken: set[str] = set()
    seen: Counter[str] = Counter()
    for order, tensor in enumerate(tensors):
        name = plain = tensor.tap.name
        seen[plain] += 1
        while name in taken:
            name = f"{plain}#{seen[plain]}"
            seen[plain] += name in taken
        taken.add(name)
        yield replace(tensor, tap=replace(tensor.tap, name=name, order=order))


def guess_precision(dtypes: Iterable[str]) -> str:
    """Return the precision that most of the float tensors have; "f32" where there are none.

    Example:
        >>> guess_precision(["float16", "float16", "float32", "int64"])
        'f16'
    """
    counts = Counter(_PRECISIONS[one] for one in dtypes if one in _PRECISIONS)
    return counts.most_common(1)[0][0] if counts else "f32"


def finite_facts(**numbers: Any) -> dict[str, float]:
    """Return the numbers among the arguments that are finite; tools write NaN, None or texts too."""
    facts: dict[str, float] = {}
    for name, value in numbers.items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            facts[name] = number
    return facts


def sizes_in_json(value: Any) -> tuple[int, ...] | None:
    """Return the sizes of a tensor from a list in JSON; None where it is no such list.

    Example:
        >>> sizes_in_json([1, 3]), sizes_in_json([1, -3])
        ((1, 3), None)
    """
    if not isinstance(value, list) or not all(type(size) is int for size in value):
        return None
    return tuple(value) if all(0 <= size <= _LARGEST_SIZE for size in value) else None


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key in which `buf9` comes before `buf10`.

    Example:
        >>> sorted(["buf10", "buf9"], key=natural_key)
        ['buf9', 'buf10']
    """
    import re

    parts = re.split(r"(\d+)", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def as_array(value: NDArray[Any], where: str) -> NDArray[Any]:
    """Return an array whose element type Shipway carries.

    Raises:
        TensorError: It does not carry this type.
    """
    try:
        dtype_of(value.dtype)
    except TensorError as error:
        raise TensorError(f"{where} holds {value.dtype} values, which Shipway does not.") from error
    return value


def load_npy(path: Path) -> NDArray[Any]:
    """Read a .npy file.

    Raises:
        TensorError: It is absent, truncated, holds Python objects or an unknown element type.
    """
    if path.suffix.lower() != ".npy":
        raise TensorError(f"{path} is no .npy file.")
    return as_array(next(iter(read_tensors(path).values())), str(path))


def npy_facts(path: Path) -> tuple[str, tuple[int, ...]]:
    """Return the element type and shape that a .npy file says it has; ("", ()) if it says nothing.

    Only its header is read: this is for guesses, not for trust.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return dtype_of(array.dtype).name, tuple(map(int, array.shape))
    except Exception:  # noqa: BLE001 -- numpy raises whatever it likes on damaged bytes; loading says why
        return "", ()


def load_torch(path: Path) -> NDArray[Any]:
    """Read a tensor that torch saved. Nothing in the file is run: objects other than tensors fail.

    Raises:
        TensorError: The file is absent, truncated, or holds something else than one tensor.
    """
    import torch

    if not path.is_file():
        raise TensorError(f"There is no {path}.")
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever it likes on damaged bytes
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TensorError(f"Cannot read {path}: {reason[0]}") from error
    if not isinstance(tensor, torch.Tensor):
        raise TensorError(f"{path} holds a {type(tensor).__name__}, not a tensor.")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise TensorError(f"{path} holds a {tensor.layout} tensor; only plain ones are read.")
    whole = tensor.detach().contiguous()
    if whole.dtype == torch.bfloat16:  # numpy has no such dtype: the bits go over
        return np.asarray(whole.view(torch.int16).numpy()).view(dtype_named("bfloat16").numpy)
    try:
        return as_array(np.asarray(whole.numpy()), str(path))
    except TypeError as error:
        raise TensorError(f"{path} holds {whole.dtype} values, which Shipway does not.") from error
