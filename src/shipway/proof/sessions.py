"""Sessions to prove with: full precision, nothing optimised."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from shipway.engines.base import EngineOptions, Session
from shipway.engines.registry import find_engine
from shipway.export.portable import PortableModel
from shipway.tensors import Tensors

__all__ = ["PLAIN", "PRECISION", "Runner", "open_plainly"]

PRECISION = "f32"
PLAIN = EngineOptions(precision=PRECISION, optimize=False)


class Runner(Protocol):
    """Whatever runs: a session, the module itself, or what stands for one."""

    def run(self, feeds: Tensors, /) -> Mapping[str, NDArray[Any]]:
        """Run once."""


@contextlib.contextmanager
def open_plainly(model: PortableModel, engine_name: str = "onnxruntime") -> Iterator[Session]:
    """Yield a session on a model without graph optimisation, so that a difference is the model's.

    Args:
        model: The model; custom operators run in their kernels, or as their portable bodies.
        engine_name: Which engine runs it.

    Raises:
        EngineMissing: The engine is not installed.
        EngineError: The model does not load.
    """
    engine = find_engine(engine_name)
    with tempfile.TemporaryDirectory(prefix="shipway-proof-") as folder:
        lowered = engine.lower(model, Path(folder) / "lowered")
        artifact = engine.compile(lowered, PLAIN, Path(folder))
        with engine.load(artifact, PLAIN) as session:
            yield session
