"""Build an operator's CUDA kernel where there is a GPU, and register it with torch."""

from __future__ import annotations

import hashlib
import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.errors import CompilerMissing, OutputError
from shipway.native.build import cache_folder
from shipway.native.cuda import ARCHITECTURES, compile_cuda, find_nvcc, nvcc_version

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp, Kernel

__all__ = ["build_cuda", "register_cuda_kernel"]

_LOG = logging.getLogger("shipway.ops")
_KEPT: dict[str, Any] = {}
"""Registrations: torch forgets one whose object goes."""


def register_cuda_kernel(op: CustomOp) -> bool:
    """Register the CUDA kernel of an operator whose schema torch knows.

    Returns:
        Whether there is one. Without a GPU nothing is compiled; without nvcc the reference computes
        on the GPU, and the log says so.

    Raises:
        EngineError: nvcc refuses the source.
        OutputError: The cache cannot be written.
    """
    import torch

    kernel = op.kernel
    if kernel is None or kernel.cuda is None or not torch.cuda.is_available():
        return False
    from shipway.ops.cuda_launch import register_cuda

    try:
        fatbin = build_cuda(op.short_name, kernel.cuda)
    except CompilerMissing as error:
        _LOG.warning("%s runs its reference on the GPU: %s %s", op.name, error, error.hint)
        return False
    _KEPT[op.name] = register_cuda(op.name, fatbin, _launch_rule(kernel))
    return True


def build_cuda(name: str, source: Path) -> Path:
    """Compile a CUDA source, unless the cache has it already.

    Args:
        name: Stem of the file, for people who look into the cache.
        source: The .cu file; headers beside it count as parts of it.

    Raises:
        CompilerMissing: There is no nvcc.
        EngineError: nvcc refuses the source.
        OutputError: The cache cannot be written.
    """
    nvcc = find_nvcc()
    digest = hashlib.sha256()
    for path in (source, *sorted(source.parent.glob("*.cuh"))):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for text in (nvcc_version(nvcc) if nvcc else "", *ARCHITECTURES):
        digest.update(text.encode() + b"\0")
    target = cache_folder() / "kernels" / digest.hexdigest()[:24] / f"{name}.fatbin"
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return compile_cuda(source, target)
    except OSError as error:
        raise OutputError(
            f"Cannot write compiled kernels to {target.parent}: {error.strerror}.",
            hint="Set SHIPWAY_CACHE to a folder with room.",
        ) from error


def _launch_rule(kernel: Kernel) -> Any:
    module, _, name = kernel.launch.partition(":")
    return getattr(importlib.import_module(module), name)
