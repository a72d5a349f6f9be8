"""What an export delivers and an engine takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shipway.tensors import TensorSpec

__all__ = ["PortableModel"]


@dataclass(frozen=True, slots=True)
class PortableModel:
    """A model before it is compiled for an engine, in the forms there are.

    Args:
        inputs: Input specs, in the order of the model's signature.
        outputs: Output specs, in order.
        onnx: The .onnx file, if there is one.
        program: The torch.export .pt2 file, if there is one.
        name_map: The name map beside the .onnx file, if there is one.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    onnx: Path | None = None
    program: Path | None = None
    name_map: Path | None = None
