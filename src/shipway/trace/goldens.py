"""Open the golden of a model: its program in PyTorch, or its ONNX graph with nothing optimised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shipway.engines.base import EngineOptions
from shipway.engines.tapping import DEFAULT_TAP_BYTES
from shipway.errors import UsageError
from shipway.export.portable import PortableModel
from shipway.trace.golden import Golden

__all__ = ["open_golden"]


@contextmanager
def open_golden(
    model: PortableModel,
    options: EngineOptions,
    *,
    from_onnx: bool = False,
    double: bool = False,
    max_bytes: int = DEFAULT_TAP_BYTES,
) -> Iterator[Golden]:
    """Open the golden of a model for the length of the block.

    Args:
        model: The model.
        options: Threads; goldens run on the CPU.
        from_onnx: Take the ONNX graph where there is a program as well: a fault that is in the
            ONNX file already is then not seen.
        double: Compute in float64.
        max_bytes: Memory for tensors, where the golden can keep to it.

    Raises:
        UsageError: float64 is asked for of an ONNX graph.
        EngineMissing: torch or onnxruntime is not installed.
        EngineError: The model calls an operator that is not registered, or does not load.
        ModelError: A file is not usable.
    """
    if model.program is not None and not from_onnx:
        from shipway.trace.program_golden import open_program_golden

        yield open_program_golden(model, double=double, threads=options.threads)
        return
    if double:
        raise UsageError(
            "Only a PyTorch program is computed in float64.",
            hint="Give the .pt2 file as the golden, or leave --double out.",
        )
    from shipway.trace.onnx_golden import open_onnx_golden

    with open_onnx_golden(model, options, max_bytes=max_bytes) as golden:
        yield golden
