"""Native code: the one library built at `pip install`, loaded with ctypes when it is there."""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from pathlib import Path

__all__ = ["ISA_LEVELS", "isa_level", "load_native", "native_path"]

ISA_LEVELS = ("portable", "avx2", "avx512")
_LIBRARY = "libshipway_native.so"


@functools.cache
def load_native() -> ctypes.CDLL | None:
    """Return the native library, or None where Shipway was installed without a compiler."""
    path = native_path()
    return None if path is None else ctypes.CDLL(str(path))


@functools.cache
def native_path() -> Path | None:
    """Return the file of the native library, or None where Shipway was installed without a compiler."""
    # An editable install keeps Python files in src/ and puts built files into site-packages.
    folders = [Path(__file__).parent, Path(sysconfig.get_path("platlib")) / "shipway" / "native"]
    return next((folder / _LIBRARY for folder in folders if (folder / _LIBRARY).is_file()), None)


def isa_level() -> str | None:
    """Return the best instruction set our kernels can use here, one of `ISA_LEVELS`.

    None where the native library is absent. Source: cpuid, see cpu.cpp.
    """
    library = load_native()
    return None if library is None else ISA_LEVELS[int(library.shipway_isa_level())]
