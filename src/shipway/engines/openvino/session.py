"""Run a model that OpenVINO compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.artifact import Artifact
from shipway.engines.base import BaseSession, EngineOptions
from shipway.engines.openvino.runtime import NOISE, TITLE
from shipway.engines.openvino.settings import effective_settings
from shipway.engines.operators import effective_operators
from shipway.engines.requests import engine_errors
from shipway.errors import EngineError
from shipway.tensors import Tensors, TensorSpec

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest

__all__ = ["OpenVinoSession"]


class OpenVinoSession(BaseSession):
    """A compiled model with one infer request for each thread that runs it at the same time."""

    def __init__(
        self,
        artifact: Artifact,
        core: Core,
        compiled: CompiledModel,
        options: EngineOptions,
        kernels: Mapping[str, str],
    ) -> None:
        """Find the ports of the inputs and outputs, and read back what OpenVINO has granted."""
        effective = {
            **effective_settings(compiled, options),
            **effective_operators(artifact, kernels),
        }
        super().__init__(artifact.inputs, artifact.outputs, effective)
        # Core and model stay together: dropping a Core that loaded an extension crashes its models.
        self.core: Any = core
        self.compiled: Any = compiled
        self._in = {spec.name: _port(compiled.inputs, spec) for spec in self.inputs}
        self._out = {spec.name: _port(compiled.outputs, spec) for spec in self.outputs}
        self._idle: list[InferRequest] = []

    def _check(self, feeds: Tensors) -> dict[str, int]:
        sizes = super()._check(feeds)
        for name, value in feeds.items():
            _refuse_wide(name, value)
        return sizes

    def _run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        with engine_errors(f"{TITLE} failed while running", NOISE):
            request = self._take_request()
            self.infer(request, feeds)
            outputs = self.results(request)
            self._idle.append(request)
        return outputs

    def infer(self, request: InferRequest, feeds: Tensors) -> None:
        """Run a request of this model, or of one with the same inputs, with feeds that were checked."""
        arrays = {self._in[name]: _shareable(value) for name, value in feeds.items()}
        # infer() loses every error of a run on one thread (2026.4); wait() raises it.
        request.start_async(arrays, share_inputs=True)
        request.wait()

    def results(self, request: InferRequest) -> dict[str, NDArray[Any]]:
        """Return copies of the outputs of a request that ran; the next run overwrites them."""
        return {
            name: np.array(request.get_output_tensor(index).data)
            for name, index in self._out.items()
        }

    def in_order(self, feeds: Tensors) -> list[NDArray[Any]]:
        """Return the feeds in the order of the model's own inputs."""
        return [feeds[name] for name in sorted(self._in, key=self._in.__getitem__)]

    def _take_request(self) -> InferRequest:
        with self._lock:
            return self._idle.pop() if self._idle else self.compiled.create_infer_request()

    def _release(self) -> None:
        self._idle.clear()
        self.compiled = None
        self.core = None


def _port(ports: list[Any], spec: TensorSpec) -> int:
    for index, port in enumerate(ports):
        if spec.name in port.get_names():
            return index
    names = ", ".join(port.get_any_name() for port in ports)
    raise EngineError(
        f"{TITLE} lost the tensor '{spec.name}' in its conversion; it has {names}.",
        hint="Give the tensor another name when exporting.",
    )


def _shareable(value: NDArray[Any]) -> NDArray[Any]:
    """Return a C-ordered array; OpenVINO refuses to share a scalar it may not write to."""
    array = np.asarray(value, order="C")
    return array if array.ndim or array.flags.writeable else array.copy()


def _refuse_wide(name: str, value: NDArray[Any]) -> None:
    """Refuse integers that OpenVINO would wrap around without a word."""
    if value.dtype.kind not in "iu" or value.dtype.itemsize < 4 or value.size == 0:
        return
    limits = np.iinfo(np.int32)
    if value.max() > limits.max or value.min() < limits.min:
        raise EngineError(
            f"{TITLE} computes {value.dtype} as int32, and '{name}' has values beyond that.",
            hint="Take another engine, or smaller values.",
        )
