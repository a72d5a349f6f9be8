"""Fit samples to a model's input, and its output to scores, one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.base import Session
from shipway.errors import EngineError, TensorError
from shipway.tensors import Tensors, TensorSpec, dtype_named

__all__ = ["Feed", "plan_feed"]

_WIDENED = ("float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class Feed:
    """How samples go in and scores come out.

    Args:
        input: The input fed.
        output: Name of the output that holds the scores.
        batch: Samples a call.
        fixed: The model takes `batch` samples and no other number: the last batch is filled up.
        classes: Number of classes, where the model tells before it runs.
        preprocess: The preprocessing as text, for messages.
    """

    input: TensorSpec
    output: str
    batch: int
    fixed: bool
    classes: int | None
    preprocess: str

    def fit(self, sample: NDArray[Any], name: str) -> NDArray[Any]:
        """Check one sample against the input, and cast float32 to another float type if need be.

        Raises:
            TensorError: Its shape or dtype is not the model's, or a value overflows in the cast.
        """
        wanted = None if self.input.shape is None else self.input.shape[1:]
        if wanted is not None and not _fits(sample.shape, wanted):
            raise TensorError(
                f"Sample '{name}' has shape {list(sample.shape)}; input '{self.input.name}' takes "
                f"{_dims(wanted)} a sample.",
                hint=f"The preprocessing is '{self.preprocess}': change its resize, crop, channels "
                "or layout.",
            )
        dtype = dtype_named(self.input.dtype).numpy
        if sample.dtype == dtype:
            return sample
        if sample.dtype != np.float32 or self.input.dtype not in _WIDENED:
            raise TensorError(
                f"Sample '{name}' is {sample.dtype}; input '{self.input.name}' takes {dtype}.",
                hint=f"The preprocessing is '{self.preprocess}': " + _dtype_hint(sample, dtype),
            )
        return _cast(sample, dtype, name)

    @property
    def cast_note(self) -> str:
        """A sentence where samples are cast, else ""."""
        if self.input.dtype not in _WIDENED:
            return ""
        return f"Samples of float32 are cast to {self.input.dtype}, the model's input."

    def batch_of(self, samples: Sequence[NDArray[Any]]) -> Tensors:
        """Stack samples, the last one repeated up to the batch of a model that takes no other.

        Raises:
            TensorError: The samples have different shapes.
        """
        shapes = sorted({sample.shape for sample in samples})
        if len(shapes) > 1:
            raise TensorError(
                f"Samples of one batch have different shapes: {list(shapes[0])}, {list(shapes[1])}.",
                hint="Crop them all to one size in the preprocessing, or use --batch 1.",
            )
        filling = [samples[-1]] * (self.batch - len(samples) if self.fixed else 0)
        return {self.input.name: np.stack([*samples, *filling])}

    def scores_of(self, outputs: Tensors, names: Sequence[str]) -> NDArray[Any]:
        """Take the scores of the samples `names` out of the outputs of one run.

        Returns:
            Shape (samples, classes); what filled the batch up is cut off.

        Raises:
            TensorError: The output is not [batch, classes].
            EngineError: A score is NaN or infinite; the message names the sample.
        """
        value = np.asarray(outputs[self.output])
        rows = self.batch if self.fixed else len(names)
        if value.ndim < 2 or value.shape[0] != rows or _not_scores(value.shape):
            raise _bad_output(self.output, f"shape {list(value.shape)} for a batch of {rows}")
        if value.dtype == dtype_named("bfloat16").numpy:
            value = value.astype(np.float32)
        if value.dtype.kind not in "iuf":
            raise _bad_output(self.output, f"dtype {value.dtype}")
        scores = value.reshape(value.shape[:2])[: len(names)]
        if value.dtype.kind == "f":
            _check_finite(scores, self.output, names)
        return scores


def plan_feed(session: Session, *, batch: int, wanted: tuple[str, str], preprocess: str) -> Feed:
    """Choose input, output and batch size before anything runs.

    Args:
        session: The model.
        batch: Samples a call the user asked for; 1 gives way to a model of a larger fixed batch.
        wanted: Names of input and output; "" for the only one.
        preprocess: The preprocessing as text, for messages.

    Raises:
        TensorError: No such input or output, several to choose from, no batch axis, or another
            fixed batch.
    """
    source = _choose(session.inputs, wanted[0], "input")
    if len(session.inputs) > 1:
        names = ", ".join(str(spec) for spec in session.inputs)
        raise TensorError(
            f"The model takes {len(session.inputs)} inputs ({names}); a sample is only one.",
            hint="Export a model with a single input to evaluate it on a data set.",
        )
    target = _choose(session.outputs, wanted[1], "output")
    if source.shape == ():
        raise TensorError(f"Input {source} has no batch axis.")
    if target.shape is not None and (len(target.shape) < 2 or _not_scores(target.shape)):
        raise _bad_output(target.name, f"shape {_dims(target.shape)}")
    axis = source.shape[0] if source.shape else None
    fixed = isinstance(axis, int)
    if isinstance(axis, int) and batch not in {1, axis}:
        raise TensorError(
            f"The model takes batches of {axis}, not {batch}: input {source}.",
            hint=f"Use --batch {axis}, or export with a dynamic batch: '{_dynamic(source)}'.",
        )
    classes = target.shape[1] if target.shape is not None else None
    return Feed(
        input=source,
        output=target.name,
        batch=axis if isinstance(axis, int) else batch,
        fixed=fixed,
        classes=classes if isinstance(classes, int) else None,
        preprocess=preprocess,
    )


def _choose(specs: Sequence[TensorSpec], name: str, what: str) -> TensorSpec:
    names = ", ".join(spec.name for spec in specs) or "none"
    if name:
        found = [spec for spec in specs if spec.name == name]
        if not found:
            raise TensorError(f"The model has no {what} '{name}'; it has {names}.")
        return found[0]
    if what == "output" and len(specs) > 1:
        raise TensorError(
            f"The model has {len(specs)} outputs: {names}.",
            hint="Say which one holds the scores: --output-name NAME.",
        )
    if not specs:
        raise TensorError(f"The model has no {what}.")
    return specs[0]


def _fits(shape: tuple[int, ...], wanted: Sequence[int | str]) -> bool:
    return len(shape) == len(wanted) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(wanted, shape, strict=True)
    )


def _not_scores(shape: Sequence[int | str]) -> bool:
    return shape[1] == 0 or any(isinstance(dim, int) and dim != 1 for dim in shape[2:])


def _dims(shape: Sequence[int | str]) -> str:
    return f"[{','.join(str(dim) for dim in shape)}]"


def _dynamic(spec: TensorSpec) -> str:
    return str(TensorSpec(spec.name, spec.dtype, ("batch", *(spec.shape or ())[1:])))


def _bad_output(name: str, what: str) -> TensorError:
    return TensorError(
        f"Output '{name}' has {what}; an evaluation needs [batch, classes].",
        hint="Evaluate a classifier, or name the output that holds its scores.",
    )


def _dtype_hint(sample: NDArray[Any], wanted: np.dtype[Any]) -> str:
    if wanted == np.uint8:
        return "add 'dtype uint8' and leave scale, mean and std out."
    if wanted == np.float32 and sample.dtype.kind in "biu":
        return "say how pixels become numbers, e.g. 'scale 1/255' (and leave 'dtype uint8' out)."
    return f"save the samples with .astype('{wanted}')."


def _cast(sample: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        cast = sample.astype(dtype)
    if not np.array_equal(np.isfinite(cast), np.isfinite(sample)):
        raise TensorError(
            f"Sample '{name}' does not fit the model's {dtype}: {np.abs(sample).max():g} overflows."
        )
    return cast


def _check_finite(scores: NDArray[Any], output: str, names: Sequence[str]) -> None:
    wrong = np.argwhere(~np.isfinite(scores))
    if wrong.size:
        row, column = wrong[0].tolist()
        raise EngineError(
            f"Output '{output}' is {scores[row, column]} for sample '{names[row]}' (class {column}).",
            hint="Check that sample, and the precision: float16 overflows above 65504.",
        )
