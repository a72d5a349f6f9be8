"""Files in which the user defines operators of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shipway.errors import ModelError
from shipway.ops.definition import CustomOp
from shipway.ops.registry import known_names, known_operator
from shipway.source.imports import workspace
from shipway.source.modelfiles import find_model_file

__all__ = ["load_operator_files", "operator_file", "operator_files"]

_LOADED: dict[Path, tuple[Path, ...]] = {}


def load_operator_files(paths: Iterable[Path]) -> tuple[CustomOp, ...]:
    """Execute files that define operators, and return the operators they brought.

    Raises:
        ModelError: A file is absent, raises, or defines no operator.
        UsageError: A definition has a mistake in it.
    """
    brought: list[CustomOp] = []
    for given in paths:
        path = find_model_file(given).resolve()
        before = set(known_names())
        with workspace(str(path), path.parent) as space:
            space.import_file(path)
        new = [name for name in known_names() if name not in before]
        if not new and path not in _LOADED:
            raise ModelError(
                f"{given} defines no operator that is not known already.",
                hint="Decorate a function with @shipway.custom_op(...); shipway op new shows how.",
            )
        _LOADED[path] = space.files
        brought += [op for name in new if (op := known_operator(name)) is not None]
    return tuple(brought)


def operator_files() -> tuple[Path, ...]:
    """Return the files given to `load_operator_files` so far."""
    return tuple(_LOADED)


def operator_file(op: CustomOp) -> Path | None:
    """Return the file that defines an operator; None for those that come with a package.

    Another process must execute it before it can load a program that calls the operator.
    """
    code = getattr(op.reference, "__code__", None)
    path = Path(code.co_filename) if code is not None else None
    if path is None or not path.is_file() or "site-packages" in path.parts:
        return None
    ours = Path(__file__).parents[1]
    return None if path.is_relative_to(ours) else path.resolve()
