"""CUDA kernels: compile them with nvcc, load and launch them through the driver.

The driver API needs neither the CUDA toolkit nor a framework at run time: libcuda.so.1 comes with
the driver, and a fatbin that was compiled elsewhere runs as well as one compiled here.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway.errors import CompilerMissing, EngineError, EngineMissing, OutputError
from shipway.native.compiling import run_compiler

__all__ = [
    "ARCHITECTURES",
    "SOURCES",
    "CudaModule",
    "Grid",
    "compile_cuda",
    "cuda_status",
    "find_nvcc",
    "multiprocessors",
    "nvcc_version",
]

SOURCES = Path(__file__).parent / "cuda"
"""Folder of Shipway's own CUDA sources."""
ARCHITECTURES = ("sm_80", "sm_90", "compute_80")
"""Machine code for Ampere and Hopper; newer GPUs compile the PTX of compute_80 when it is loaded."""
_FLAGS = ("-std=c++17", "-O3", "--fatbin", "-Werror", "all-warnings")
_INSTALL = "https://developer.nvidia.com/cuda-downloads, or set NVCC to the compiler's path"
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+[af]?)")
_TOO_NEW = (209, 222)  # no binary for this GPU, PTX newer than the driver
_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT


def find_nvcc() -> str | None:
    """Return nvcc: NVCC if it is set, else the one on PATH or in CUDA_HOME; None where there is none."""
    if named := shlex.split(os.environ.get("NVCC", ""))[:1]:
        return shutil.which(named[0])
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    places = [None, *(str(Path(home) / "bin") for home in homes if home)]
    return next((found for place in places if (found := shutil.which("nvcc", path=place))), None)


@functools.cache
def nvcc_version(nvcc: str) -> str:
    """Return what the compiler says of itself, for the key of a cache."""
    command = [nvcc, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 -- the user's own compiler


def compile_cuda(source: Path, target: Path, architectures: Sequence[str] = ARCHITECTURES) -> Path:
    """Compile a CUDA source to a fatbin that the driver loads.

    Args:
        source: A .cu file; its headers lie beside it.
        target: Where the fatbin goes. It appears whole or not at all.
        architectures: sm_NN for machine code, compute_NN for PTX that later GPUs compile.

    Returns:
        `target`.

    Raises:
        CompilerMissing: There is no nvcc.
        EngineError: The source is absent, or nvcc refuses it; the message quotes it.
        OutputError: The target's folder cannot be written.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        named = os.environ.get("NVCC")
        why = f"NVCC names {named}, which cannot be run" if named else "no nvcc"
        raise CompilerMissing(f"There is no CUDA compiler: {why}.", hint=_INSTALL)
    if not source.is_file():
        raise EngineError(
            f"There is no kernel source {source}.", hint="Check the path in the definition."
        )
    codes = [_gencode(name) for name in architectures]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as folder:
            made = Path(folder) / target.name
            command = [nvcc, *_FLAGS, *codes, str(source), "-o", str(made)]
            run_compiler(command, "nvcc", source.name, folder)
            made.replace(target)
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {error.strerror}.", hint="Choose a folder with room."
        ) from error
    return target


def _gencode(architecture: str) -> str:
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None:
        raise EngineError(
            f"'{architecture}' is no CUDA architecture.",
            hint="Write sm_90 for machine code or compute_90 for PTX; `nvcc --list-gpu-code` lists them.",
        )
    return f"-gencode=arch=compute_{match.group(2)},code={architecture}"


@functools.cache
def _open_driver() -> tuple[ctypes.CDLL | None, str]:
    """Return the initialised driver and "", or None and why there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return None, f"no NVIDIA driver: {error}"
    code = driver.cuInit(0)
    if code != 0:
        return None, f"the NVIDIA driver does not start: {_error_text(driver, code)}"
    count = ctypes.c_int()
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code != 0:
        return None, f"the NVIDIA driver lists no GPU: {_error_text(driver, code)}"
    return (driver, "") if count.value > 0 else (None, "the NVIDIA driver sees no GPU")


def cuda_status() -> str:
    """Return why CUDA kernels cannot run here, "" where they can."""
    return _open_driver()[1]


def _require_driver() -> ctypes.CDLL:
    driver, why = _open_driver()
    if driver is None:
        raise EngineMissing("CUDA kernels", install="Check it with: nvidia-smi", why=why)
    return driver


def _error_text(driver: ctypes.CDLL, code: int) -> str:
    parts = []
    for ask in (driver.cuGetErrorName, driver.cuGetErrorString):
        text = ctypes.c_char_p()
        if ask(ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value:
            parts.append(text.value.decode("utf-8", "replace"))
    return ", ".join((*parts, f"code {code}"))


def _check(driver: ctypes.CDLL, code: int, doing: str) -> None:
    if code == 0:
        return
    hint = "See `nvidia-smi`. After a failed kernel the process must be started anew."
    if code in _TOO_NEW:
        hint = (
            f"The fatbin has code for {', '.join(ARCHITECTURES)} unless others were asked for: "
            "compile it for this GPU, or update its driver."
        )
    raise EngineError(f"CUDA failed while {doing}: {_error_text(driver, code)}.", hint=hint)


@functools.cache
def multiprocessors(device: int) -> int:
    """Return how many multiprocessors a GPU has.

    Raises:
        EngineMissing: There is no usable driver or GPU.
        EngineError: There is no such GPU.
    """
    driver = _require_driver()
    count = ctypes.c_int()
    code = driver.cuDeviceGetAttribute(
        ctypes.byref(count), ctypes.c_int(_MULTIPROCESSORS), _device(driver, device)
    )
    _check(driver, code, f"asking for the size of GPU {device}")
    return count.value


def _device(driver: ctypes.CDLL, index: int) -> ctypes.c_int:
    device = ctypes.c_int()
    code = driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index))
    _check(driver, code, f"looking for GPU {index}")
    return device


@dataclass(frozen=True, slots=True)
class Grid:
    """How many threads run a kernel.

    Args:
        blocks: Up to 2**31 - 1.
        threads: Of a block.
        shared_bytes: Shared memory of a block that the kernel sizes itself, up to 48 KiB.
    """

    blocks: int
    threads: int
    shared_bytes: int = 0


class CudaModule:
    """A fatbin loaded on one GPU, in the primary context that torch uses too.

    It stays loaded as long as the process: a kernel may still be running when Python forgets it.

    Args:
        image: Contents of the fatbin, cubin or PTX file.
        device: Index of the GPU.

    Raises:
        EngineMissing: There is no usable driver or GPU.
        EngineError: The GPU does not exist, or the fatbin has no code for it.
    """

    def __init__(self, image: bytes, device: int = 0) -> None:
        """Retain the context and load the code into it."""
        self._driver = _require_driver()
        self._context = ctypes.c_void_p()
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        self._lock = threading.Lock()
        self.device = device
        code = self._driver.cuDevicePrimaryCtxRetain(
            ctypes.byref(self._context), _device(self._driver, device)
        )
        _check(self._driver, code, f"opening GPU {device}")
        with self.current():
            code = self._driver.cuModuleLoadData(ctypes.byref(self._module), ctypes.c_char_p(image))
            _check(self._driver, code, f"loading a kernel on GPU {device}")

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this GPU's context the thread's own while the block runs."""
        _check(self._driver, self._driver.cuCtxPushCurrent_v2(self._context), "entering a context")
        try:
            yield
        finally:
            self._driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    def launch(
        self,
        kernel: str,
        grid: Grid,
        arguments: Sequence[Any],
        stream: int = 0,
    ) -> None:
        """Queue a kernel on a stream; it may run after this returns.

        Args:
            kernel: Name of an extern "C" __global__ function.
            grid: Its size.
            arguments: ctypes values, of exactly the types of the kernel's parameters.
            stream: Handle of a stream of this GPU; 0 is the default one.

        Raises:
            EngineError: There is no such kernel, or the driver refuses the launch. What fails while
                the kernel runs is told by the next call that waits for it.
        """
        pointers = (ctypes.c_void_p * len(arguments))(*(map(ctypes.addressof, arguments)))
        sizes = map(ctypes.c_uint, (grid.blocks, 1, 1, grid.threads, 1, 1, grid.shared_bytes))
        with self.current():
            code = self._driver.cuLaunchKernel(
                self._function(kernel), *sizes, ctypes.c_void_p(stream), pointers, None
            )
            _check(self._driver, code, f"launching {kernel} on GPU {self.device}")

    def _function(self, kernel: str) -> ctypes.c_void_p:
        with self._lock:
            if kernel not in self._functions:
                found = ctypes.c_void_p()
                code = self._driver.cuModuleGetFunction(
                    ctypes.byref(found), self._module, ctypes.c_char_p(kernel.encode())
                )
                _check(self._driver, code, f"looking for the kernel {kernel}")
                self._functions[kernel] = found
            return self._functions[kernel]
