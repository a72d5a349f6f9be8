"""The user's own module as golden, where there is no program of it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from shipway.errors import EngineError, ExportError
from shipway.export.example import to_numpy, to_torch
from shipway.export.outputs import flatten_outputs
from shipway.export.portable import PortableModel
from shipway.export.signature import bind_inputs
from shipway.tensors import Tensors

__all__ = ["EagerGolden"]


class EagerGolden:
    """Runs a torch.nn.Module under the input and output names of its export."""

    def __init__(self, module: Any, model: PortableModel) -> None:
        """Tie the model's inputs to the module's.

        Raises:
            ExportError: They do not fit.
        """
        self._module = module
        self._binding = bind_inputs(module.forward, model.inputs)
        self._outputs = [spec.name for spec in model.outputs]

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Run the module once, in f32 as it stands, without gradients.

        Raises:
            EngineError: The module raises.
            ExportError: It does not return as many tensors as the export has outputs.
        """
        import torch

        values = {name: to_torch(array) for name, array in feeds.items()}
        args, kwargs = self._binding.arguments(values)
        try:
            with torch.no_grad():
                tensors = flatten_outputs(self._module(*args, **kwargs)).tensors
        except Exception as error:
            raise EngineError(f"The module fails: {type(error).__name__}: {error}") from error
        if len(tensors) != len(self._outputs):
            raise ExportError(
                f"The module returns {len(tensors)} tensors; the export has {len(self._outputs)}.",
                hint="Export it again.",
            )
        return {name: to_numpy(tensor) for name, tensor in zip(self._outputs, tensors, strict=True)}
