"""Random inputs at a chosen batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shipway.errors import UsageError
from shipway.tensors import ANY, Dim, Tensors, TensorSpec, random_feeds

__all__ = ["batch_feeds", "check_batch"]


def check_batch(
    inputs: Sequence[TensorSpec],
    batch: int,
    bounds: Mapping[str, tuple[int, int]] | None = None,
) -> None:
    """Refuse a batch size that the model cannot take.

    Args:
        inputs: Input specs of the model.
        batch: Batch size.
        bounds: Smallest and largest size of dynamic dimensions, by name.

    Raises:
        UsageError: It is below 1, the model's batch is fixed to another size, or bounded.
    """
    axis = _batch_axis(inputs)
    if batch < 1:
        raise UsageError(f"A batch of {batch} cannot be measured.", hint="Give 1 or more.")
    if isinstance(axis, int) and axis != batch:
        spec = inputs[0]
        raise UsageError(
            f"The model has a fixed batch of {axis}; {batch} cannot be measured.",
            hint=f"Measure batch {axis}, or export with a dynamic one: "
            f"{spec.name}:{spec.dtype}[batch,...].",
        )
    low, high = (bounds or {}).get(str(axis), (1, batch))
    if not low <= batch <= high:
        raise UsageError(
            f"A batch of {batch} cannot be measured: '{axis}' is bounded to {low}..{high}.",
            hint="Measure another batch, or export with other bounds.",
        )


def _batch_axis(inputs: Sequence[TensorSpec]) -> Dim | None:
    shape = inputs[0].shape if inputs else None
    return shape[0] if shape else None


def batch_feeds(
    inputs: Sequence[TensorSpec], sizes: Mapping[str, int] | None = None, *, seed: int = 0
) -> Callable[[int], Tensors]:
    """Return a function that makes inputs of a given batch size.

    The batch is the first axis of the first input. Every dynamic dimension of that name follows it.

    Args:
        inputs: Input specs of the model.
        sizes: Sizes of the other dynamic dimensions; 1 where none is given.
        seed: Seed of the values.

    The function returned raises UsageError where the model cannot take the batch.
    """
    axis = _batch_axis(inputs)

    def make(batch: int) -> Tensors:
        check_batch(inputs, batch)
        chosen = dict(sizes or {})
        specs = list(inputs)
        if isinstance(axis, str):
            chosen[axis] = batch
        if axis == ANY and specs[0].shape is not None:
            shape = (batch, *specs[0].shape[1:])
            specs[0] = TensorSpec(specs[0].name, specs[0].dtype, shape, specs[0].value_range)
        return random_feeds(specs, seed=seed, sizes=chosen)

    return make
