"""An example that a model accepts: what it is traced with, and what it returned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from shipway.errors import ExportError
from shipway.export.outputs import FlatOutputs, flatten_outputs
from shipway.export.program import carried_dtype
from shipway.export.refusals import explain_failure
from shipway.export.sizes import Bounds, check_bounds, example_sizes
from shipway.tensors import TensorSpec, dtype_named, random_feeds

__all__ = ["Arguments", "Example", "find_example", "keep_state", "to_numpy", "to_torch"]


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs that the model accepts, and what it returned.

    Args:
        sizes: Size of each dynamic dimension.
        feeds: torch tensors by input name.
        outputs: What `forward` returned for them.
    """

    sizes: dict[str, int]
    feeds: dict[str, Any]
    outputs: FlatOutputs


class Arguments(Protocol):
    """Input specs, and how their values are passed."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """In the order of the model's inputs."""

    def arguments(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the values, given by spec name, as `args` and `kwargs`."""


def find_example(module: Any, binding: Arguments, bounds: Bounds, *, seed: int = 0) -> Example:
    """Run the model on random inputs at the first sizes it accepts.

    Raises:
        ExportError: It accepts none; the message quotes the line that failed.
    """
    import torch

    check_bounds(binding.specs, bounds)
    failure: Exception | None = None
    sizes: dict[str, int] = {}
    for sizes in example_sizes(binding.specs, bounds):
        arrays = random_feeds(binding.specs, seed=seed, sizes=sizes)
        feeds = {name: to_torch(array) for name, array in arrays.items()}
        args, kwargs = binding.arguments({name: value.clone() for name, value in feeds.items()})
        try:
            with torch.no_grad(), keep_state(module.buffers()):
                flat = flatten_outputs(module(*args, **kwargs))
                for name, tensor in zip(flat.names, flat.tensors, strict=True):
                    carried_dtype(name, tensor.dtype)
                # A model may return its own state, which is put back as the block ends.
                flat.tensors = [tensor.clone() for tensor in flat.tensors]
                return Example(sizes, feeds, flat)
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 -- a user's forward may raise anything
            failure = error
    specs = ", ".join(str(spec) for spec in binding.specs)
    raise explain_failure(failure or RuntimeError(), sizes, specs) from failure


@contextlib.contextmanager
def keep_state(tensors: Iterable[Any]) -> Iterator[None]:
    """Put tensors back as they were: a model may count its calls or keep a cache in its buffers."""
    import torch

    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                if tensor.shape == before.shape and not torch.equal(tensor, before):
                    tensor.copy_(before)


def to_torch(array: NDArray[Any]) -> Any:
    """Return a numpy array as a torch tensor of its own; bfloat16 passes through its bits."""
    import numpy as np
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def to_numpy(tensor: Any) -> NDArray[Any]:
    """Return a torch tensor as a numpy array of its own."""
    import numpy as np
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        bits = tensor.contiguous().view(torch.uint16).numpy()
        return np.array(bits).view(dtype_named("bfloat16").numpy)
    return np.array(tensor.numpy())
