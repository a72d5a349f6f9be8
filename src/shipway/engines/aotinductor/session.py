"""Run what AOTInductor compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import BaseSession
from shipway.engines.exported import memory_of, own_arrays, to_tensors, torch_settings
from shipway.engines.limits import AxisLimit, check_limits
from shipway.tensors import Tensors

__all__ = ["AotInductorSession", "load_package"]


def load_package(path: Path) -> Any:
    """Load a package; torch unpacks it to a folder in /tmp that goes when the object goes.

    torch._inductor.aoti_load_package would first compile test programs, up to 15 s, to compare the
    instruction set; the engine has compared the processors already.
    """
    import torch

    run_single_threaded, runners, any_device = False, 1, -1
    return torch._C._aoti.AOTIModelPackageLoader(  # noqa: SLF001 -- see above
        str(path), "model", run_single_threaded, runners, any_device
    )


class AotInductorSession(BaseSession):
    """A loaded package. Runs from several threads take turns."""

    def __init__(self, artifact: Artifact, package: Any, effective: dict[str, str]) -> None:
        """Read back the limits found at compile time, which the compiled code does not check."""
        super().__init__(artifact.inputs, artifact.outputs, effective)
        self._package = package
        self._threads = int(effective["threads"])
        self._positions = tuple(artifact.made["outputs"])
        self._mutates = bool(artifact.made["mutates"])
        self._limits = tuple(AxisLimit.from_json(limit) for limit in artifact.made["limits"])

    def _check(self, feeds: Tensors) -> dict[str, int]:
        sizes = super()._check(feeds)
        check_limits(self.inputs, self._limits, feeds)
        return sizes

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        tensors = to_tensors((feeds[spec.name] for spec in self.inputs), copy=self._mutates)
        with torch_settings(self._threads):
            results = self._package.run(tensors)
            outputs = [results[at] for at in self._positions]
            arrays = own_arrays(outputs, memory_of(tensors))
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, arrays, strict=True))

    def _release(self) -> None:
        self._package = None
