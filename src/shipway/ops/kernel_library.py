"""The library that holds an operator's native kernel: found or built, loaded, held to the definition."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.errors import CompilerMissing, EngineError
from shipway.native import load_native, native_path
from shipway.native.build import ADAPTERS, build_library
from shipway.native.table import OpView, read_table
from shipway.tensors import dtype_named

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = [
    "KernelLibrary",
    "before_user_kernel",
    "libraries_of",
    "library_of",
    "longest_call",
    "why_portable",
]

_LOG = logging.getLogger("shipway.ops")
_ADAPTERS = ("onnxruntime.cpp", "torch.cpp", "calls.cpp")
_LOADED: dict[Path, KernelLibrary] = {}
_PORTABLE: dict[str, str] = {}
_KINDS = {"bool": "int"}

before_user_kernel: Callable[[], None] | None = None
"""Called before a library that is not Shipway's own is loaded; the command line guards itself."""


@dataclass(frozen=True, slots=True)
class KernelLibrary:
    """A loaded library of kernels. It stays loaded: runtimes keep pointers into it.

    Args:
        path: Its file.
        handle: As ctypes has it.
        operators: What its table says.
    """

    path: Path
    handle: ctypes.CDLL
    operators: tuple[OpView, ...]

    def view(self, op: CustomOp) -> OpView | None:
        """Return the descriptor of an operator; None where this library lacks it."""
        wanted = (op.namespace, op.onnx_name)
        return next((one for one in self.operators if (one.domain, one.name) == wanted), None)


def library_of(op: CustomOp) -> KernelLibrary | None:
    """Return the library with the operator's kernel, built if need be.

    None where the operator has no kernel, or where there is no compiler to build it with; then
    `why_portable` says so, and a line in the log does.

    Raises:
        EngineError: It does not build or load, or its descriptor does not fit the definition.
    """
    if op.name in _PORTABLE:
        return None
    kernel = op.kernel
    if kernel is None:
        _note_portable(op, "the operator has no native kernel", warn=False)
        return None
    if kernel.built_in:
        handle, path = load_native(), native_path()
        if handle is None or path is None:
            _note_portable(
                op,
                "Shipway was installed without its native library (no C++ compiler, or one that failed)",
            )
            return None
        library = _LOADED.get(path) or _LOADED.setdefault(
            path, KernelLibrary(path, handle, read_table(handle, path))
        )
    elif kernel.library is not None:
        library = _load(kernel.library)
    else:
        sources = (*kernel.sources, *(ADAPTERS / name for name in _ADAPTERS))
        try:
            path = build_library(op.name.replace("::", "_"), sources, flags=kernel.flags)
        except CompilerMissing as error:
            _note_portable(op, str(error))
            return None
        library = _load(path)
    _require_fit(op, library)
    return library


def why_portable(op: CustomOp) -> str:
    """Return why an operator has no native kernel here, "" where it has one."""
    return "" if library_of(op) is not None else _PORTABLE[op.name]


def libraries_of(ops: Iterable[CustomOp]) -> tuple[KernelLibrary, ...]:
    """Return the libraries of several operators, each once."""
    found = (library_of(op) for op in ops)
    return tuple({library.path: library for library in found if library is not None}.values())


def longest_call() -> tuple[str, float]:
    """Return the operator whose kernel has been running longest, and for how many seconds."""
    found = ("", 0.0)
    for library in list(_LOADED.values()):
        name = ctypes.create_string_buffer(256)
        seconds = library.handle.shipway_longest_call(name, len(name)) / 1000
        if seconds > found[1]:
            found = (name.value.decode("utf-8", "replace"), seconds)
    return found


def _note_portable(op: CustomOp, why: str, *, warn: bool = True) -> None:
    _PORTABLE[op.name] = why
    if warn:
        _LOG.warning("%s runs without its native kernel: %s", op.name, why)


def _load(path: Path) -> KernelLibrary:
    path = path.resolve()
    if path not in _LOADED:
        if before_user_kernel is not None:
            before_user_kernel()
        try:
            handle = ctypes.CDLL(str(path))
        except OSError as error:
            raise EngineError(
                f"The kernel library {path} does not load: {error}.",
                hint="Build it again on this machine.",
            ) from error
        _LOADED[path] = KernelLibrary(path, handle, read_table(handle, path))
    return _LOADED[path]


def _require_fit(op: CustomOp, library: KernelLibrary) -> None:
    """Refuse a kernel that means something else than the definition."""
    view = library.view(op)
    if view is None:
        names = ", ".join(f"{one.domain}::{one.name}" for one in library.operators)
        raise EngineError(
            f"The library {library.path.name} has no kernel {op.onnx_id}; it has {names or 'none'}.",
            hint="The descriptor's domain and name must be those of the definition.",
        )
    for what, mine, theirs in _facts(op, view):
        if mine != theirs:
            raise EngineError(
                f"The kernel of {op.name} says its {what} are {theirs!r}; the definition says {mine!r}.",
                hint="Change one of them: both describe the same operator.",
            )


def _facts(op: CustomOp, view: OpView) -> list[tuple[str, object, object]]:
    signature = op.signature
    ins, _, outs = op.types.partition("->")
    floats = {dtype_named(name).onnx for name in op.floats} if "T" in op.types else set()
    attributes = [
        (item.name, _KINDS.get(item.kind, item.kind), item.required)
        for item in signature.attributes
    ]
    aliases = {f"{alias.domain}::{alias.name}" for alias in op.aliases}
    return [
        ("inputs", ins, view.input_types),
        ("outputs", outs, view.output_types),
        ("torch name", op.short_name, view.torch_name),
        ("version", op.version, view.version),
        ("attributes", attributes, [(one.name, one.kind, one.required) for one in view.attributes]),
        ("dtypes of T", floats, set(view.float_types) if "T" in op.types else set()),
        ("optional inputs", [item.optional for item in signature.inputs], list(view.optional)),
        ("aliases", aliases, set(view.aliases)),
    ]
