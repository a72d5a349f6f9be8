"""Every error Shipway raises on purpose, and the exit code each one gives a command.

* ShipwayError
  x UsageError            the command, or a value given to it, makes no sense           exit 2
    + OutputError         the place to write to is full, read-only or in use            exit 2
  x ModelError            the model, its file, weights or graph is not usable           exit 4
    + ExportError         PyTorch or its ONNX exporter refuses the model                exit 4
    + WeightsError        a state dict does not belong to the model                     exit 4
  x TensorError           a tensor has the wrong name, shape, dtype or value            exit 4
  x DatasetError          a label file, image or array of a data set is not usable      exit 4
  x EngineError           an engine failed while compiling, loading or running          exit 5
    + EngineMissing       the engine's package is not installed                         exit 3
    + CompilerMissing     a kernel would have to be compiled, and nothing can           exit 3

A comparison that fails or a limit that is missed is a result, not an error (exit 1).
Exit 0 means pass; 70 means a bug in Shipway, and is the only case that shows a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

__all__ = [
    "CompilerMissing",
    "DatasetError",
    "EngineError",
    "EngineMissing",
    "ExportError",
    "ModelError",
    "OutputError",
    "ShipwayError",
    "TensorError",
    "UsageError",
    "WeightsError",
]


class ShipwayError(Exception):
    """Base class: a message that says what went wrong, and a hint that says what to do next."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint apart from the message, so that the CLI can print it on its own line."""
        super().__init__(message)
        self.hint = hint


class UsageError(ShipwayError):
    """The command, or a value given to it, makes no sense."""

    exit_code = 2


class OutputError(UsageError):
    """The place to write to is full, read-only or in use by another run."""


class ModelError(ShipwayError):
    """The model, its file, weights or graph is not usable."""

    exit_code = 4


class ExportError(ModelError):
    """PyTorch or its ONNX exporter refuses the model, or delivers another one than asked for."""


class WeightsError(ModelError):
    """A state dict does not belong to the model."""


class TensorError(ShipwayError):
    """A tensor has the wrong name, shape, dtype or value."""

    exit_code = 4


class DatasetError(ShipwayError):
    """A label file, image or array of a data set is not usable."""

    exit_code = 4


class EngineError(ShipwayError):
    """An engine failed while compiling, loading or running."""

    exit_code = 5


class CompilerMissing(EngineError):
    """A kernel would have to be compiled, and there is no compiler."""

    exit_code = 3


class EngineMissing(EngineError):
    """The package of an engine is not installed."""

    exit_code = 3

    def __init__(self, engine: str, *, install: str, why: str = "") -> None:
        """Name the engine and the command that brings it in."""
        reason = f" ({why})" if why else ""
        super().__init__(f"The engine {engine} is not installed{reason}.", hint=install)
        self.engine = engine
        self._why = why

    def __reduce__(self) -> tuple[Callable[[], EngineMissing], tuple[()]]:
        """Pickle it whole: errors travel back from child processes."""
        return partial(EngineMissing, self.engine, install=self.hint, why=self._why), ()
