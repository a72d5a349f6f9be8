"""The same model with more outputs: made, compiled, and kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.openvino.execution import Place
from shipway.engines.openvino.runtime import runtime
from shipway.tensors import DTYPES

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest, Model, PartialShape

__all__ = ["TappedModels"]

_MOST_KEPT = 64
_DTYPES = {dtype.openvino: dtype for dtype in DTYPES}


class TappedModels:
    """Compiles a model with some of its tensors as further outputs, which follow its own."""

    def __init__(
        self,
        core: Core,
        model: Model,
        device: str,
        config: Mapping[str, str],
        places: Mapping[str, Place],
        max_bytes: int,
    ) -> None:
        """Count the weights, of which each compiled model may hold a copy.

        Args:
            core: That knows the model's custom operators.
            model: Without further outputs.
            device: For which device to compile.
            config: With which properties.
            places: Where the tensor of each name is.
            max_bytes: What the models that are kept may hold.
        """
        self._core: Any = core
        self._model: Any = model
        self._device = device
        self._config = dict(config)
        self._places = places
        constants = (op for op in model.get_ops() if op.get_type_name() == "Constant")
        weights = sum(
            _count(op.output(0).get_partial_shape()) * op.output(0).get_element_type().size
            for op in constants
        )
        self._room = min(_MOST_KEPT, max(1, max_bytes // max(weights, 1)))
        self._kept: OrderedDict[tuple[str, ...], CompiledModel] = OrderedDict()

    def sizes(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Return how many bytes each tensor has; where that depends on values, the most it may.

        A size without a bound counts as 1.

        Args:
            shapes: Shapes of the inputs, in the order of the model's own.
        """
        ops = _by_name(self._for_shapes(shapes))
        return {
            name: _count(ops[place.op].output(place.port).get_partial_shape())
            * _DTYPES[place.dtype].numpy.itemsize
            for name, place in self._places.items()
        }

    def _for_shapes(self, shapes: Sequence[tuple[int, ...]]) -> Model:
        if not any(port.partial_shape.is_dynamic for port in self._model.inputs):
            return self._model
        model = self._model.clone()
        try:
            model.reshape({at: runtime().PartialShape(shape) for at, shape in enumerate(shapes)})
        except RuntimeError:  # it runs all the same: only its sizes stay unknown
            return self._model
        return model

    def compiled(self, names: tuple[str, ...]) -> CompiledModel:
        """Return the compiled model that also gives the tensors of these names."""
        if names in self._kept:
            self._kept.move_to_end(names)
            return self._kept[names]
        while len(self._kept) >= self._room:
            self._kept.popitem(last=False)
        self._kept[names] = self._core.compile_model(
            self._with_outputs(names), self._device, self._config
        )
        return self._kept[names]

    def _with_outputs(self, names: Sequence[str]) -> Model:
        from openvino.preprocess import PrePostProcessor

        model = self._model.clone()
        ops, places = _by_name(model), [self._places[name] for name in names]
        count = len(model.outputs)
        model.add_outputs([ops[place.op].output(place.port) for place in places])
        steps = PrePostProcessor(model)
        types = runtime().Type
        for at, place in enumerate(places, start=count):
            wanted = getattr(types, place.dtype)
            if model.outputs[at].get_element_type() != wanted:
                steps.output(at).tensor().set_element_type(wanted)
        return steps.build()

    def read(self, request: InferRequest, at: int, name: str) -> NDArray[Any]:
        """Return a copy of the tensor that a finished run gave beyond the outputs of the model.

        Args:
            request: The run.
            at: Its position among the names the model was compiled with.
            name: Its name.
        """
        tensor = request.get_output_tensor(len(self._model.outputs) + at)
        # Where OpenVINO has no numpy dtype of its own (bfloat16), it gives the same bytes as another.
        return np.array(tensor.data.view(_DTYPES[self._places[name].dtype].numpy))

    def clear(self) -> None:
        """Let go of all compiled models."""
        self._kept.clear()
        self._model = self._core = None


def _by_name(model: Model) -> dict[str, Any]:
    return {op.get_friendly_name(): op for op in model.get_ordered_ops()}


def _count(shape: PartialShape) -> int:
    """Return the largest number of elements; a dimension without a bound counts as 1."""
    if shape.rank.is_dynamic:
        return 1
    count = 1
    for size in shape:
        most = size.get_max_length()
        count *= most if most >= 0 else 1
    return count
