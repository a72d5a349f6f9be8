"""Native kernels in OpenVINO: a C++ extension built for the installed version, or one in Python.

OpenVINO's C++ interface changes with every release, so the extension is compiled on the user's
machine when a model first needs it, and kept in the cache. It holds no kernels itself: it is told of
the tables of the libraries that do. Where there is no compiler, or OpenVINO came without its
headers, Python carries the calls, on one thread.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.engines.openvino.runtime import runtime
from shipway.environment import package_version
from shipway.errors import CompilerMissing, EngineError
from shipway.native.build import ADAPTERS, build_library
from shipway.ops.kernel_library import KernelLibrary, libraries_of, library_of

if TYPE_CHECKING:
    from openvino import Core
    from openvino.frontend import FrontEnd

    from shipway.ops.definition import CustomOp

__all__ = ["KERNEL", "KernelExtension", "extension_of"]

KERNEL = "native kernel"
_LOG = logging.getLogger("shipway.engines")


@dataclass(frozen=True, slots=True)
class KernelExtension:
    """The kernels of some operators, in the form OpenVINO takes.

    Args:
        ops: The operators.
        path: The C++ extension; None where Python carries the calls.
        why: Why it does, "" if it does not.
    """

    ops: tuple[CustomOp, ...]
    path: Path | None
    why: str

    @property
    def kernel(self) -> str:
        """What computes, in words for a report."""
        return KERNEL if self.path is not None else f"{KERNEL} called by Python, on one thread"

    def add_to_core(self, core: Core) -> None:
        """Let a Core read models that call these operators."""
        if self.path is not None:
            core.add_extension(str(self.path))
            return
        for node_type in self._python_types():
            core.add_extension(node_type)

    def add_to_frontend(self, frontend: FrontEnd) -> None:
        """Let the ONNX frontend convert these operators."""
        if self.path is not None:
            frontend.add_extension(str(self.path))
            return
        from shipway.engines.openvino.python_kernels import conversions

        for node_type in self._python_types():
            for conversion in conversions(node_type):
                frontend.add_extension(conversion)

    def _python_types(self) -> list[Any]:
        from shipway.engines.openvino.python_kernels import node_type

        found = []
        for op in self.ops:
            library = library_of(op)
            view = None if library is None else library.view(op)
            if library is not None and view is not None:
                found.append(node_type(library, view))
        return found


def extension_of(ops: Iterable[CustomOp]) -> KernelExtension | None:
    """Return what makes OpenVINO run the kernels of some operators; None where none has a kernel.

    Raises:
        EngineError: A kernel or the extension does not compile or load.
    """
    with_kernel = tuple(op for op in ops if library_of(op) is not None)
    if not with_kernel:
        return None
    path, why = _build()
    if path is not None:
        for library in libraries_of(with_kernel):
            _introduce(path, library)
    return KernelExtension(with_kernel, path, why)


@functools.cache
def _build() -> tuple[Path | None, str]:
    """Build the extension; where that cannot be done, say why."""
    package = Path(str(runtime().__file__)).parent
    include, libraries = package / "include", package / "libs"
    found = [_only(libraries, name) for name in ("openvino", "openvino_onnx_frontend", "tbb")]
    why = ""
    if not (include / "openvino" / "core" / "op_extension.hpp").is_file() or None in found:
        why = f"OpenVINO came without its C++ headers and libraries ({package})"
    else:
        try:
            return _compile(include, libraries, [str(item) for item in found]), ""
        except CompilerMissing as error:
            why = str(error)
    _LOG.warning("OpenVINO calls native kernels through Python, on one thread: %s", why.rstrip("."))
    return None, why


def _compile(include: Path, libraries: Path, files: list[str]) -> Path:
    return build_library(
        "shipway_openvino",
        [ADAPTERS / "openvino.cpp"],
        flags=(
            f"-isystem{include}",
            "-DOV_THREAD=OV_THREAD_TBB_ADAPTIVE",
            *files,
            f"-Wl,-rpath,{libraries}",
        ),
        versions=(package_version("openvino"),),
    )


def _only(folder: Path, name: str) -> Path | None:
    """Return the library of a name, whatever version its file name carries."""
    return next(iter(sorted(folder.glob(f"lib{name}.so*"))), None)


@functools.cache
def _introduce(path: Path, library: KernelLibrary) -> None:
    """Tell the extension of a kernel library. It stays loaded: models keep pointers into it."""
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(
            f"The OpenVINO extension {path} does not load: {error}.",
            hint=f"Delete {path.parent} to have it built again.",
        ) from error
    handle.shipway_openvino_add.restype = None
    library.handle.shipway_ops.restype = ctypes.c_void_p
    handle.shipway_openvino_add(
        ctypes.c_void_p(library.handle.shipway_ops()),
        ctypes.cast(library.handle.shipway_call, ctypes.c_void_p),
    )
