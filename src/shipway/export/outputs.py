"""Whatever a model returns, as a flat tuple of tensors with names."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shipway.errors import ExportError

__all__ = ["FlatOutputs", "flat_outputs", "flatten_outputs", "name_outputs"]

Path = tuple[str | int, ...]
Arguments = Callable[[tuple[Any, ...]], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(slots=True)
class FlatOutputs:
    """The tensors of a returned value in order, where each was, and what was not a tensor."""

    tensors: list[Any] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each tensor: where it was; "output" for a single one without a key."""
        if len(self.paths) == 1 and all(isinstance(part, int) for part in self.paths[0]):
            return ("output",)
        return tuple(_path_name(path) for path in self.paths)


def _path_name(path: Path) -> str:
    prefix = ("output",) if not path or isinstance(path[0], int) else ()
    return "_".join(str(part) for part in (*prefix, *path))


def flatten_outputs(value: Any) -> FlatOutputs:
    """Take a returned value apart: mappings, dataclasses, named and plain tuples, lists.

    Only tensors are outputs. None, numbers, strings and sizes are left out and listed in
    `left_out`, by name: an engine returns tensors and nothing else.
    """
    flat = FlatOutputs()
    _collect(value, (), flat)
    return flat


def _collect(value: Any, path: Path, flat: FlatOutputs) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        flat.tensors.append(value)
        flat.paths.append(path)
        return
    children = _children(value)
    if children is None:
        flat.left_out[_path_name(path)] = "None" if value is None else type(value).__name__
        return
    for key, child in children:
        _collect(child, (*path, key), flat)


def _children(value: Any) -> list[tuple[str | int, Any]] | None:
    """Return the parts of a container by key, None for anything else."""
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    return None


@contextlib.contextmanager
def flat_outputs(module: Any, arguments: Arguments | None = None) -> Iterator[None]:
    """Make `module` return a flat tuple of tensors inside the block.

    The saved program then returns exactly the outputs of the ONNX model, and classes that torch
    cannot look into (dataclasses that were never registered) cost the user nothing.

    Args:
        module: Put back as it was when the block ends.
        arguments: Makes `forward` take tensors by position alone, and says how it gets them; for
            the old tracer, which knows no keywords.
    """
    original = module.forward

    @functools.wraps(original)
    def call_and_flatten(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return tuple(flatten_outputs(original(*args, **kwargs)).tensors)

    def call_by_position(*tensors: Any) -> tuple[Any, ...]:
        args, kwargs = arguments(tensors) if arguments else (tensors, {})
        return call_and_flatten(*args, **kwargs)

    replaced = "forward" in vars(module)
    module.forward = call_and_flatten if arguments is None else call_by_position
    try:
        yield
    finally:
        if replaced:
            module.forward = original
        else:
            del module.forward


def name_outputs(
    derived: Sequence[str], wanted: Sequence[str], inputs: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of the outputs: the user's, or the derived ones made unique.

    Args:
        derived: One name an output.
        wanted: What the user asked for; () for nothing.
        inputs: Names that are taken: in ONNX an output cannot share the name of an input.

    Raises:
        ExportError: No output at all, a wrong number of names, or a name that an input has.
    """
    if not derived:
        raise ExportError(
            "The model returns no tensor.", hint="Let forward return the tensors that matter."
        )
    if not wanted:
        return _make_unique(derived, inputs)
    if len(wanted) != len(derived):
        raise ExportError(
            f"{len(wanted)} output names are given ({', '.join(wanted)}); the model returns "
            f"{len(derived)} tensors: {', '.join(derived)}.",
            hint="Give one --output-name for each, in this order.",
        )
    if taken := [name for name in wanted if name in inputs]:
        raise ExportError(f"'{taken[0]}' is the name of an input; an output needs another.")
    return tuple(wanted)


def _make_unique(names: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    used = set(taken)
    unique = []
    for name in names:
        candidate = name
        while candidate in used:
            candidate += "_out"
        used.add(candidate)
        unique.append(candidate)
    return tuple(unique)
