"""The inputs a model file declares, and what the user says about them, put together."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from shipway.errors import TensorError, UsageError
from shipway.source.modelfiles import shown_path
from shipway.tensors import ANY, Dim, TensorSpec

__all__ = ["bind_inputs", "check_names"]


def check_names(specs: Sequence[TensorSpec]) -> None:
    """Refuse two specs of the same name.

    Raises:
        UsageError: A name comes twice.
    """
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"The input '{name}' is given {names.count(name)} times.",
                hint="Give each input once: --input name:dtype[dims].",
            )


def bind_inputs(
    declared: Sequence[TensorSpec], given: Sequence[TensorSpec], path: Path
) -> tuple[TensorSpec, ...]:
    """Return the declared inputs with the user's sizes, names of sizes and value ranges in them.

    A symbolic size may be fixed or renamed, everywhere it occurs; a fixed one must agree. `?` and
    inputs that are not given stay as declared.

    Args:
        declared: What the file says.
        given: What the user says; the name "" stands for the only input.
        path: The file, for messages.

    Raises:
        UsageError: An input is given twice.
        TensorError: No such input, or dtype, rank or a size contradicts the file.
    """
    by_name = {spec.name: spec for spec in declared}
    pairs = [(by_name[_resolve(spec, by_name, path)], spec) for spec in given]
    check_names([old for old, _ in pairs])
    sizes: dict[str, Dim] = {}
    for old, new in pairs:
        _check_pair(old, new, sizes, path)
    wanted = {old.name: new for old, new in pairs}
    return tuple(_bound(spec, wanted.get(spec.name, spec), sizes) for spec in declared)


def _resolve(spec: TensorSpec, by_name: dict[str, TensorSpec], path: Path) -> str:
    if spec.name in by_name:
        return spec.name
    if not spec.name and len(by_name) == 1:
        return next(iter(by_name))
    near = difflib.get_close_matches(spec.name, by_name, n=1)
    listed = ", ".join(map(str, by_name.values()))
    hint = f"Did you mean '{near[0]}'? " if near else ""
    problem = f"no input '{spec.name}'" if spec.name else "several inputs: say which one is meant"
    raise TensorError(f"{shown_path(path)} has {problem}.", hint=f"{hint}It has {listed}.")


def _check_pair(old: TensorSpec, new: TensorSpec, sizes: dict[str, Dim], path: Path) -> None:
    """Check what the user says of one input; note in `sizes` what its symbolic sizes become."""
    if new.dtype != old.dtype:
        raise _contradiction(old, new, path, f"its dtype is {old.dtype}")
    if new.shape is None or old.shape is None:
        return
    if len(new.shape) != len(old.shape):
        raise _contradiction(old, new, path, f"it has {len(old.shape)} dimensions")
    for axis, (before, after) in enumerate(zip(old.shape, new.shape, strict=True)):
        if isinstance(before, int) and after not in {ANY, before}:
            raise _contradiction(old, new, path, f"axis {axis} is fixed at {before}")
        is_named = isinstance(before, str) and ANY not in {before, after}
        if is_named and sizes.setdefault(str(before), after) != after:
            raise _contradiction(old, new, path, f"'{before}' is {sizes[str(before)]} elsewhere")


def _bound(old: TensorSpec, new: TensorSpec, sizes: dict[str, Dim]) -> TensorSpec:
    shape = new.shape
    if old.shape is not None:
        given = new.shape or old.shape
        pairs = zip(old.shape, given, strict=True)
        shape = tuple(
            after
            if before == ANY
            else sizes.get(before, before)
            if isinstance(before, str)
            else before
            for before, after in pairs
        )
    return TensorSpec(old.name, old.dtype, shape, new.value_range)


def _contradiction(declared: TensorSpec, given: TensorSpec, path: Path, why: str) -> TensorError:
    return TensorError(
        f"--input {given} contradicts {shown_path(path)}: {why}.", hint=f"The file has {declared}."
    )
