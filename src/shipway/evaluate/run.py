"""Evaluate an engine on a data set: feed it every sample, count, and compare with golden."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.base import Session
from shipway.errors import DatasetError, TensorError, UsageError
from shipway.evaluate.accuracy import LARGEST_N, Predictions, ranks, top_classes, top_n
from shipway.evaluate.dataset import Dataset
from shipway.evaluate.feeding import Feed, plan_feed
from shipway.evaluate.flips import check_same_samples, compare_predictions
from shipway.evaluate.images import strict_decoding
from shipway.evaluate.reading import read_ahead
from shipway.evaluate.results import BadSample, Evaluation
from shipway.progress import SILENT, Progress

__all__ = ["EvaluateOptions", "evaluate_session"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How to evaluate.

    Args:
        batch: Samples a call. 1 gives way to a model whose batch is fixed at more.
        input: Input that takes the samples; "" for the only one.
        output: Output that holds the scores; "" for the only one.
        max_bad: Samples that may be unreadable; one more fails the evaluation.
        limit: Evaluate this many samples, spread evenly over the data set; 0 means all.

    Raises:
        UsageError: A number is out of range.
    """

    batch: int = 1
    input: str = ""
    output: str = ""
    max_bad: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for name, least in (("batch", 1), ("max_bad", 0), ("limit", 0)):
            value = getattr(self, name)
            if value < least:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} is {value}; it must be at least {least}.")

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(slots=True)
class _Tally:
    """Results as they come in. The number of classes is known after the first batch."""

    dataset: Dataset
    classes: int | None
    ranks: NDArray[np.int32]
    top: NDArray[np.int32]
    bad: list[BadSample] = field(default_factory=list)

    def add(self, indices: list[int], scores: NDArray[Any]) -> None:
        """Rank the labels of one batch."""
        if self.classes is None:
            self.classes = scores.shape[1]
            _check_labels(self.dataset, self.classes)
        if scores.shape[1] != self.classes:
            raise TensorError(f"The model gave {scores.shape[1]} scores, before {self.classes}.")
        count = min(LARGEST_N, self.classes)
        self.ranks[indices] = ranks(scores, self.dataset.labels[indices])
        self.top[indices, :count] = top_classes(scores, count)

    def predictions(self) -> Predictions:
        """Return everything, once all batches are in."""
        if self.classes is None or len(self.bad) == len(self.dataset):
            raise DatasetError(
                f"No sample of {self.dataset.name} can be read: {_listed(self.bad)}."
            )
        return Predictions(
            ids=self.dataset.ids,
            labels=self.dataset.labels,
            ranks=self.ranks,
            top=self.top[:, : min(LARGEST_N, self.classes)].copy(),
            classes=self.classes,
        )


def evaluate_session(
    session: Session,
    dataset: Dataset,
    options: EvaluateOptions,
    *,
    engine: str,
    golden: Predictions | None = None,
    progress: Progress = SILENT,
) -> tuple[Evaluation, Predictions]:
    """Feed every sample to the model once and count Top-1 to Top-5.

    Samples are read on a few threads ahead of the engine. A sample that cannot be read is counted
    and named. When there are more of them than `options.max_bad`, the engine stops at once and the
    rest is only read, so that the error can tell them all.

    Args:
        session: A model with one input [batch, ...] and scores [batch, classes].
        dataset: Labels from 0, below the number of classes.
        options: Batch size, names, limits.
        engine: Name for the report.
        golden: Predictions of golden on the same samples, to count flips against.
        progress: Told of every sample.

    Returns:
        The evaluation, and the predictions to compare another engine with.

    Raises:
        DatasetError: Too many bad samples, no sample, a label the model has no class for, or
            golden was evaluated on other samples.
        TensorError: Samples do not fit the input, or the output is not [batch, classes].
        EngineError: The engine failed, or gave NaN or Inf.
    """
    chosen = dataset.subset(options.limit) if options.limit else dataset
    _check_dataset(chosen, golden)
    feed = plan_feed(
        session,
        batch=options.batch,
        wanted=(options.input, options.output),
        preprocess=str(chosen.preprocess),
    )
    if feed.classes is not None:
        _check_labels(chosen, feed.classes)
    progress.start(f"evaluate {engine}", len(chosen))
    started = time.perf_counter()
    tally = _run(session, chosen, feed, options.max_bad, progress)
    seconds = time.perf_counter() - started
    predictions = tally.predictions()
    evaluation = Evaluation(
        engine=engine,
        dataset=chosen.name,
        dataset_digest=chosen.digest(),
        preprocess=str(chosen.preprocess),
        top=top_n(predictions.ranks, predictions.classes),
        bad=tuple(tally.bad),
        effective=dict(session.effective),
        flips=None if golden is None else compare_predictions(golden, predictions),
        seconds=seconds,
        notes=_notes(dataset, chosen, feed, options),
    )
    return evaluation, predictions


def _run(
    session: Session, dataset: Dataset, feed: Feed, max_bad: int, progress: Progress
) -> _Tally:
    samples = len(dataset)
    blank = np.full((samples, 1 + LARGEST_N), -1, dtype=np.int32)
    tally = _Tally(dataset, feed.classes, blank[:, 0].copy(), blank[:, 1:].copy())
    pending: dict[int, NDArray[Any]] = {}
    with strict_decoding(), closing(read_ahead(dataset, batch=feed.batch)) as stream:
        for index, sample in stream:
            if isinstance(sample, DatasetError):
                tally.bad.append(_bad_sample(dataset.ids[index], sample))
            elif len(tally.bad) <= max_bad:
                pending[index] = feed.fit(sample, dataset.ids[index])
            last = index + 1 == samples
            if len(tally.bad) <= max_bad and pending and (last or len(pending) == feed.batch):
                _run_batch(session, feed, tally, pending)
                pending = {}
            progress.advance()
    if len(tally.bad) > max_bad:
        raise _too_many_bad(dataset, tally.bad, max_bad)
    return tally


def _bad_sample(name: str, error: DatasetError) -> BadSample:
    return BadSample(name, str(error).removeprefix(f"{name}: "))


def _run_batch(
    session: Session, feed: Feed, tally: _Tally, pending: dict[int, NDArray[Any]]
) -> None:
    indices = list(pending)
    names = [tally.dataset.ids[index] for index in indices]
    outputs = session.run(feed.batch_of(list(pending.values())))
    tally.add(indices, feed.scores_of(outputs, names))


def _check_dataset(dataset: Dataset, golden: Predictions | None) -> None:
    if not len(dataset):
        raise DatasetError(f"The data set {dataset.name} is empty.")
    if golden is not None:
        check_same_samples(golden, dataset.ids, dataset.labels)


def _check_labels(dataset: Dataset, classes: int) -> None:
    wrong = np.flatnonzero((dataset.labels < 0) | (dataset.labels >= classes))
    if not wrong.size:
        return
    first = ", ".join(
        f"'{dataset.ids[index]}' has {dataset.labels[index]}" for index in wrong[:_SHOWN].tolist()
    )
    raise DatasetError(
        f"{wrong.size} of {len(dataset)} labels are outside the model's classes 0..{classes - 1}: "
        f"{first}.",
        hint="Labels count from 0; is the label file of another model, or does it count from 1?",
    )


def _too_many_bad(dataset: Dataset, bad: list[BadSample], max_bad: int) -> DatasetError:
    return DatasetError(
        f"{len(bad)} of {len(dataset)} samples of {dataset.name} cannot be read "
        f"({max_bad} allowed): {_listed(bad)}.",
        hint=f"Replace them, or leave them out of the count: --max-bad {len(bad)}.",
    )


def _listed(bad: list[BadSample]) -> str:
    shown = "; ".join(f"{sample.sample} ({sample.reason})" for sample in bad[:_SHOWN])
    more = len(bad) - _SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def _notes(
    dataset: Dataset, chosen: Dataset, feed: Feed, options: EvaluateOptions
) -> tuple[str, ...]:
    notes = list(chosen.notes)
    if len(chosen) < len(dataset):
        notes.append(f"{len(chosen)} of {len(dataset)} samples evaluated, spread evenly.")
    if feed.batch != options.batch:
        notes.append(f"Batches of {feed.batch}: the model takes no other.")
    if feed.cast_note:
        notes.append(feed.cast_note)
    return tuple(notes)
