"""Model inputs made from the samples of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import DatasetError, TensorError
from shipway.evaluate.dataset import Dataset
from shipway.evaluate.images import strict_decoding
from shipway.tensors import TensorSpec, dtype_named

__all__ = ["sample_feeds"]


def sample_feeds(
    inputs: Sequence[TensorSpec], dataset: Dataset, count: int
) -> list[dict[str, NDArray[Any]]]:
    """Return `count` samples, spread evenly over the data set, as feeds of one sample each.

    Only models of one input, whose first axis is the batch, can be fed from a data set. A fixed
    batch above one is filled by repeating the sample. Samples that cannot be read are left out:
    `evaluate_session` is where they are counted and named.

    Raises:
        TensorError: The model has several inputs, or none with a batch axis.
        DatasetError: Not one sample can be read.
    """
    if not count:
        return []
    if len(inputs) != 1 or not inputs[0].shape:
        names = ", ".join(str(spec) for spec in inputs)
        raise TensorError(
            f"A data set feeds models of one input with a batch axis; this one takes {names}."
        )
    spec = inputs[0]
    samples = list(_read(dataset.subset(count)))
    size = inputs[0].shape[0]
    repeats = size if isinstance(size, int) else 1
    dtype = dtype_named(spec.dtype).numpy
    return [
        {spec.name: np.repeat(sample[None], repeats, axis=0).astype(dtype, copy=False)}
        for sample in samples
    ]


def _read(dataset: Dataset) -> list[NDArray[Any]]:
    samples, bad = [], []
    with strict_decoding():
        for index in range(len(dataset)):
            try:
                samples.append(dataset.sample(index))
            except DatasetError as error:
                bad.append(error)
    if not samples:
        raise DatasetError(f"None of {len(bad)} samples of {dataset.name} can be read: {bad[0]}")
    return samples
