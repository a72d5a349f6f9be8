"""Random inputs at a chosen batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shipway.errors import UsageError
from shipway.tensors import ANY, Tensors, TensorSpec, random_feeds

__all__ = ["batch_feeds"]


def batch_feeds(
    inputs: Sequence[TensorSpec], sizes: Mapping[str, int] | None = None, *, seed: int = 0
) -> Callable[[int], Tensors]:
    """Return a function that makes inputs of a given batch size.

    The batch is the first axis of the first input. Every dynamic dimension of that name follows it.

    Args:
        inputs: Input specs of the model.
        sizes: Sizes of the other dynamic dimensions; 1 where none is given.
        seed: Seed of the values.

    The function returned raises UsageError where the model's batch is fixed to another size.
    """
    shape = inputs[0].shape if inputs else None
    axis = shape[0] if shape else None

    def make(batch: int) -> Tensors:
        if isinstance(axis, int) and axis != batch:
            raise UsageError(
                f"The model has a fixed batch of {axis}; {batch} cannot be measured.",
                hint=f"Measure batch {axis}, or export with a dynamic one: {inputs[0].name}:"
                f"{inputs[0].dtype}[batch,...].",
            )
        chosen = dict(sizes or {})
        specs = list(inputs)
        if isinstance(axis, str):
            chosen[axis] = batch
        if axis == ANY and shape is not None:
            specs[0] = TensorSpec(
                specs[0].name, specs[0].dtype, (batch, *shape[1:]), specs[0].value_range
            )
        return random_feeds(specs, seed=seed, sizes=chosen)

    return make
