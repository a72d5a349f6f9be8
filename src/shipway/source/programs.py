"""Exported programs (.pt2, torch.export.save): read with their inputs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shipway.errors import ModelError, TensorError
from shipway.ops.torch_op import register_all
from shipway.source.archives import archive_kind
from shipway.source.modelfiles import shown_path
from shipway.source.quoting import quote_text
from shipway.tensors import Dim, TensorSpec, dtype_named

__all__ = ["load_program", "program_inputs"]

_SAVE_HINT = "Save it again: torch.export.save(torch.export.export(model, args), 'model.pt2')."
_PICKLED_HINT = "If you trust the file, add --allow-pickle."
_FORCE_SAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_FORCE_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_LOGGERS = ("torch.export", "torch.export.pt2_archive._package", "torch._export.serde.serialize")


def load_program(path: Path, *, allow_pickle: bool) -> Any:
    """Return the torch.export.ExportedProgram a .pt2 file holds.

    torch.export.load unpickles parts of the file without restriction. Here it reads tensors only
    unless `allow_pickle` is set. The graph itself is read by torch, which parses the sizes in it
    with sympy: a .pt2 file from a stranger is no safer than their Python code.

    Raises:
        ModelError: The file is truncated, of another kind, or holds pickled code.
    """
    shown = shown_path(path)
    kind = archive_kind(path)
    if kind == "aotinductor-package":
        raise ModelError(
            f"{shown} is an AOTInductor package: it is compiled already and has no graph in it.",
            hint=f"Run it as it is: shipway run {shown}; or give the program it was compiled from.",
        )
    if kind != "exported-program":
        what = "truncated" if kind == "truncated" else "not an exported program"
        raise ModelError(f"{shown} is {what}.", hint=_SAVE_HINT)
    if not allow_pickle and _has_pickled_objects(path):
        raise ModelError(f"{shown} holds pickled Python objects.", hint=_PICKLED_HINT)
    register_all()  # a program that calls an operator torch does not know cannot be read
    with _safe_loading(allow_pickle=allow_pickle), _captured_log() as logged:
        try:
            return _load(path)
        except Exception as error:  # noqa: BLE001 -- torch raises what it likes on a bad file
            cause = logged[0] if logged else error
            pickled = not allow_pickle and "weights_only" in str(cause)
            raise ModelError(
                f"{shown} cannot be loaded: {quote_text(str(cause).partition('. ')[0])}.",
                hint=_PICKLED_HINT if pickled else _SAVE_HINT,
            ) from cause


def _has_pickled_objects(path: Path) -> bool:
    """Whether an archive has constants that torch reads with plain pickle."""
    from torch.export.pt2_archive import PT2ArchiveReader

    try:
        # By torch's own reader: another zip reader may see other names in a forged archive.
        with PT2ArchiveReader(str(path)) as archive:
            names: list[str] = archive.get_file_names()
    except (RuntimeError, AssertionError):  # written before torch 2.8, which had no such objects
        return False
    return any("opaque_obj" in name.lower() for name in names)


def _load(path: Path) -> Any:
    import torch

    return torch.export.load(path)


@contextlib.contextmanager
def _safe_loading(*, allow_pickle: bool) -> Iterator[None]:
    """Make every torch.load inside the block read tensors only."""
    saved = {name: os.environ.pop(name, None) for name in (_FORCE_SAFE, _FORCE_UNSAFE)}
    if not allow_pickle:
        os.environ[_FORCE_SAFE] = "1"
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _captured_log() -> Iterator[list[BaseException]]:
    """Keep torch from logging a traceback; collect the exceptions it would have logged."""
    found: list[BaseException] = []

    def swallow(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            found.append(record.exc_info[1])
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(swallow)
    try:
        yield found
    finally:
        for logger in loggers:
            logger.removeFilter(swallow)


def program_inputs(program: Any, path: Path) -> tuple[TensorSpec, ...]:
    """Return the specs of a program's inputs in call order.

    A size that is dynamic in the program carries the name it has there (say "s77"). A constant
    argument (a number or a flag frozen by the export) is part of the program and no input.

    Args:
        program: A torch.export.ExportedProgram.
        path: Where it came from, for messages.

    Raises:
        ModelError: An input is not a tensor, or its dtype is none that Shipway carries.
    """
    from torch.export.graph_signature import ConstantArgument, InputKind

    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    arguments = [
        spec.arg
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT and not isinstance(spec.arg, ConstantArgument)
    ]
    return tuple(_spec(argument.name, values.get(argument.name), path) for argument in arguments)


def _spec(name: str, value: Any, path: Path) -> TensorSpec:
    import torch

    if not isinstance(value, torch.Tensor):
        raise ModelError(
            f"{shown_path(path)}: its input '{name}' is not a tensor but {type(value).__name__}.",
            hint="Export it with tensors as inputs, e.g. torch.tensor(n) for a number.",
        )
    try:
        dtype = dtype_named(str(value.dtype).removeprefix("torch.")).name
    except TensorError as error:
        raise ModelError(
            f"{shown_path(path)}: its input '{name}' is {value.dtype}, which Shipway does not carry."
        ) from error
    return TensorSpec(name, dtype, tuple(_dim(size) for size in value.shape))


def _dim(size: Any) -> Dim:
    return size if isinstance(size, int) else str(size)
