"""Give torch the CUDA kernel of an operator: one launch rule an operator, the rest is the same for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shipway.errors import EngineError
from shipway.native.cuda import CudaModule, Grid, multiprocessors

__all__ = ["Launch", "LaunchRule", "Loader", "register_cuda", "run_launch"]


@dataclass(frozen=True, slots=True)
class Launch:
    """One call of a kernel, ready to be queued.

    Args:
        kernel: Name of the kernel; "" where there is nothing to compute.
        grid: Its size.
        arguments: ctypes values, of exactly the types of its parameters.
        output: What the operator returns; the kernel fills it.
        inputs: Tensors the arguments point into, kept until the kernel is queued. From then on
            torch gives their memory only to work that is queued after it on the same stream.
    """

    kernel: str
    grid: Grid
    arguments: tuple[Any, ...]
    output: Tensor
    inputs: tuple[Tensor, ...]


LaunchRule = Callable[..., Launch]
"""Takes the number of multiprocessors, then the operator's own arguments, all on one GPU."""

Loader = Callable[[int], CudaModule]
"""Gives the loaded kernels of the GPU with an index."""


def register_cuda(qualname: str, fatbin: Path, rule: LaunchRule) -> torch.library.Library:
    """Register a kernel as the CUDA implementation of an operator.

    Args:
        qualname: `namespace::name` of the operator in torch.
        fatbin: Compiled kernels; read when the operator is first called with CUDA tensors.
        rule: Turns a call of the operator into one of the kernel.

    Returns:
        The registration, which lasts as long as this object.
    """
    load = _loader(fatbin)

    def compute(*arguments: Any) -> Tensor:
        return run_launch(qualname, load, rule, arguments)

    namespace, _, name = qualname.partition("::")
    library = torch.library.Library(namespace, "FRAGMENT")
    library.impl(name, compute, "CUDA")
    return library


def run_launch(qualname: str, load: Loader, rule: LaunchRule, arguments: tuple[Any, ...]) -> Tensor:
    """Run one call of an operator on the current stream of its tensors' GPU.

    Raises:
        EngineError: The tensors are not on one GPU, do not fit together, or the launch fails.
    """
    device = _common_device(qualname, arguments)
    launch = rule(multiprocessors(device.index), *arguments)
    if launch.kernel:
        stream = torch.cuda.current_stream(device).cuda_stream
        load(device.index).launch(launch.kernel, launch.grid, launch.arguments, stream)
    return launch.output


def _common_device(qualname: str, arguments: tuple[Any, ...]) -> torch.device:
    devices = {item.device for item in arguments if isinstance(item, Tensor)}
    if len(devices) == 1:
        return devices.pop()
    named = ", ".join(sorted(map(str, devices)))
    raise EngineError(
        f"The tensors of {qualname} are on different devices: {named}.",
        hint="Move them to one GPU with .to(device).",
    )


def _loader(fatbin: Path) -> Loader:
    modules: dict[int, CudaModule] = {}
    lock = threading.Lock()

    def load(device: int) -> CudaModule:
        with lock:
            if device not in modules:
                modules[device] = CudaModule(_read(fatbin), device)
            return modules[device]

    return load


def _read(fatbin: Path) -> bytes:
    try:
        return fatbin.read_bytes()
    except OSError as error:
        raise EngineError(
            f"Cannot read the compiled kernel {fatbin}: {error.strerror}.",
            hint="Delete its folder in the cache: it is compiled again when it is next needed.",
        ) from error
