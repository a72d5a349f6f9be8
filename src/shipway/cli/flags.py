"""Flags that several commands share, and how their texts become values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shipway.engines.base import EngineOptions
from shipway.engines.registry import engine_names
from shipway.engines.target import Target, parse_target
from shipway.errors import UsageError
from shipway.evaluate.dataset import Dataset, load_dataset
from shipway.evaluate.preprocess import parse_preprocess
from shipway.source.arguments import parse_arguments
from shipway.source.loading import SourceRequest
from shipway.source.operators import operator_files
from shipway.tensors import TensorSpec, parse_spec

__all__ = [
    "DataFlags",
    "EngineFlags",
    "Flag",
    "Many",
    "SourceFlags",
    "model_request",
    "read_bounds",
    "read_bytes",
    "read_numbers",
    "read_sizes",
    "split_target",
]

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
"""A switch that is off unless named; it has no --no- form."""

Many = Annotated[
    tuple[str, ...], Parameter(negative=(), consume_multiple=False, show_default=False)
]
"""A flag that may be given again and again, one value each time."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFlags:
    """What belongs to a source.

    Args:
        input: Input spec, e.g. "image:float32[batch,3,224,224]"; names in brackets are dynamic
            sizes. Again for each input.
        weights: State dict to load: .pth, .pt or .safetensors.
        arg: Argument key=value of the class or factory. Again for each.
        allow_pickle: Unpickle whole modules: runs code from the file. Only for files you trust.
    """

    input: Many = ()
    weights: Path | None = None
    arg: Many = ()
    allow_pickle: Flag = False

    def request(self, reference: str) -> SourceRequest:
        """Combine the flags with the source they belong to."""
        return SourceRequest(
            reference=reference,
            arguments=parse_arguments(self.arg),
            weights=self.weights,
            inputs=tuple(parse_spec(text) for text in self.input),
            allow_pickle=self.allow_pickle,
            ops=operator_files(),
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """What is asked of an engine.

    Args:
        threads: Threads inside one operator; 0 takes all physical cores.
        device: Device name of the engine; the CPU if not given.
        optimize: Optimise the graph. Without, some engines refuse.
    """

    threads: int = 0
    device: str = ""
    optimize: bool = True

    def options(self) -> EngineOptions:
        """Return engine options; the target adds the precision."""
        if self.threads < 0:
            raise UsageError(f"--threads must be 0 or more, not {self.threads}.")
        return EngineOptions(threads=self.threads, device=self.device, optimize=self.optimize)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlags:
    """A data set.

    Args:
        data: Folder of images, or .npz with x and y.
        labels: Label file, "name label" a line. Without it: labels.txt in the folder, or one
            folder per class.
        preprocess: "resize 256 bicubic, crop 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
            a preset (imagenet-bicubic, imagenet-bilinear, none), or a preset with changes.
    """

    data: Path | None = None
    labels: Path | None = None
    preprocess: str = ""

    def load(self) -> Dataset | None:
        """Load the data set; None where none was named."""
        if self.data is None:
            return None
        return load_dataset(
            self.data,
            labels=self.labels,
            preprocess=parse_preprocess(self.preprocess) if self.preprocess else None,
        )


def model_request(reference: str) -> SourceRequest:
    """Return the request for a model file; code must be exported before it can be run.

    Raises:
        UsageError: The reference is PyTorch code.
    """
    path = Path(reference)
    if not path.exists() and ":" in reference:
        raise UsageError(
            f"{reference} is PyTorch code; this command takes a model file.",
            hint=f'shipway export {reference} --input "NAME:DTYPE[DIMS]", then export/model.onnx',
        )
    if path.is_dir():
        raise UsageError(f"{reference} is a folder.", hint="Name the model file in it.")
    return SourceRequest(reference=reference)


def split_target(text: str) -> tuple[str, Target | None]:
    """Split "path@engine:precision"; without an engine, the path alone.

    Example:
        >>> split_target("model.onnx")
        ('model.onnx', None)
    """
    path, at, target = text.rpartition("@")
    named = target.partition(":")[0] in engine_names()
    if at and (named or (Path(path).is_file() and not Path(text).exists())):
        return path, parse_target(target)
    return text, None


def read_sizes(items: Sequence[str], inputs: Sequence[TensorSpec]) -> dict[str, int]:
    """Read "batch=4" texts.

    Args:
        items: One text a dimension.
        inputs: Input specs of the model; every name must be one of their dynamic dimensions.

    Raises:
        UsageError: A text is not name=number, or the model has no such dimension.
    """
    known = {name for spec in inputs for name in spec.dynamic_dims}
    sizes = {}
    for item in items:
        match = re.fullmatch(r"(\w+)=(\d+)", item)
        if match is None:
            raise UsageError(f"--dim takes name=size, not '{item}'.", hint="E.g. --dim batch=4")
        if match[1] not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"The model has no dynamic dimension '{match[1]}'.", hint=f"It has: {names}."
            )
        sizes[match[1]] = int(match[2])
    return sizes


def read_numbers(items: Sequence[str], flag: str) -> dict[str, int]:
    """Read "batch=4" texts whose names may be anything.

    Raises:
        UsageError: A text is not name=number.
    """
    sizes = {}
    for item in items:
        match = re.fullmatch(r"(.+)=(\d+)", item)
        if match is None:
            raise UsageError(
                f"{flag} takes name=number, not '{item}'.", hint=f"E.g. {flag} batch=3"
            )
        sizes[match[1]] = int(match[2])
    return sizes


_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_bytes(text: str, flag: str) -> int:
    """Read "2G", "512M" or "1.5GiB" as a number of bytes.

    K, M, G and T are powers of 1024, with or without iB behind them; KB, MB, GB and TB are powers
    of 1000. A number alone is bytes. Capital and small letters are the same.

    Raises:
        UsageError: The text is no size, or is zero.

    Example:
        >>> read_bytes("1.5GiB", "--max-memory"), read_bytes("2 kB", "--max-memory")
        (1610612736, 2000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?)(i?b)?\s*", text, re.IGNORECASE)
    if match is not None:
        base = 1000 if (match[3] or "").lower() == "b" else 1024
        found = int(float(match[1]) * base ** _UNITS[match[2].lower()])
        if found > 0:
            return found
    raise UsageError(
        f"{flag} takes a size above zero, not '{text}'.", hint=f"E.g. {flag} 2G, or {flag} 512M"
    )


def read_bounds(items: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Read "batch=1..64" texts.

    Raises:
        UsageError: A text is not name=low..high.
    """
    bounds = {}
    for item in items:
        match = re.fullmatch(r"(\w+)=(\d+)\.\.(\d+)", item)
        if match is None or int(match[2]) > int(match[3]):
            raise UsageError(
                f"--bound takes name=low..high, not '{item}'.", hint="E.g. --bound batch=1..64"
            )
        bounds[match[1]] = (int(match[2]), int(match[3]))
    return bounds
