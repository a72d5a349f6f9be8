"""Top-N accuracy from integer ranks, and the file that keeps every sample's prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import DatasetError
from shipway.evaluate.results import TopN
from shipway.files import atomic_path

__all__ = [
    "LARGEST_N",
    "Z_95",
    "Predictions",
    "load_predictions",
    "ranks",
    "top_classes",
    "top_n",
    "wilson_interval",
]

_SCHEMA = 1

LARGEST_N = 5
"""Top-1 to Top-5 are reported."""

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


def ranks(scores: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return how many classes come before the label; of equal scores the lower class wins.

    Args:
        scores: Shape (samples, classes), any real dtype, without NaN.
        labels: Shape (samples,), each from 0 to classes - 1.

    Returns:
        Shape (samples,); 0 means the label has the highest score.

    Example:
        >>> ranks(np.array([[1.0, 3.0, 3.0]]), np.array([2])).tolist()
        [1]
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    return np.asarray(np.count_nonzero(before, axis=1), dtype=np.int32)


def top_classes(scores: NDArray[Any], count: int) -> NDArray[np.int32]:
    """Return the classes with the `count` highest scores, best first; ties as in `ranks`.

    Args:
        scores: Shape (samples, classes), any real dtype, without NaN.
        count: At most `classes`.

    Returns:
        Shape (samples, count).
    """
    classes = scores.shape[1]
    # A stable sort of the reversed row, read backwards, is descending with lower classes first.
    order = np.argsort(scores[:, ::-1], axis=1, kind="stable")[:, ::-1]
    return np.asarray(classes - 1 - order[:, :count], dtype=np.int32)


def top_n(label_ranks: NDArray[Any], classes: int) -> tuple[TopN, ...]:
    """Count Top-1 to Top-5, or to Top-`classes` where there are fewer.

    Args:
        label_ranks: As `ranks` returns them; -1 marks a sample that counts nowhere.
        classes: Number of classes.

    Raises:
        ValueError: No sample counts.
    """
    counted = label_ranks[label_ranks >= 0]
    total = len(counted)
    result = []
    for n in range(1, min(LARGEST_N, classes) + 1):
        correct = int(np.count_nonzero(counted < n))
        low, high = wilson_interval(correct, total)
        result.append(TopN(n, correct, total, low, high))
    return tuple(result)


def wilson_interval(correct: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the ends of the Wilson score interval of a rate.

    Args:
        correct: From 0 to `total`.
        total: At least 1.
        z: Normal quantile; the default gives 95 %.

    Raises:
        ValueError: `total` is 0, or `correct` is outside 0..total.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Example:
        >>> low, high = wilson_interval(90, 100)
        >>> f"{low:.4f} {high:.4f}"
        '0.8256 0.9448'
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total}")
    rate = correct / total
    shrink = 1 + z * z / total
    centre = (rate + z * z / (2 * total)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total)) / shrink
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Ranks and best classes of every sample, in the order of the data set.

    Args:
        ids: Name of each sample.
        labels: Class of each, shape (samples,), int64.
        ranks: Rank of the label, shape (samples,), int32; 0 is the best, -1 a bad sample.
        top: Best classes, best first, shape (samples, min(5, classes)), int32; -1 for bad samples.
        classes: Number of classes.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    ranks: NDArray[np.int32]
    top: NDArray[np.int32]
    classes: int

    def save(self, path: Path) -> None:
        """Write everything to an .npz file, atomically. The same predictions give the same bytes.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                schema_version=np.int64(_SCHEMA),
                ids=np.array(self.ids, dtype=np.str_),
                labels=self.labels,
                ranks=self.ranks,
                top=self.top,
                classes=np.int64(self.classes),
            )


def load_predictions(path: Path) -> Predictions:
    """Read what `Predictions.save` wrote.

    Raises:
        DatasetError: The file is absent, damaged, of a newer schema, or something else.
    """
    try:
        # The stream is ours: numpy leaves its own open when the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = _from_archive(archive)
    except FileNotFoundError:
        raise DatasetError(f"No such file: {path}.") from None
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}", hint=error.hint) from None
    except Exception as error:  # on damaged bytes numpy and zipfile raise whatever they like
        raise DatasetError(f"{path} holds no predictions of Shipway: {error!r}.") from error
    return found


def _from_archive(archive: Any) -> Predictions:
    if int(archive["schema_version"]) > _SCHEMA:
        raise DatasetError(
            f"written by a newer Shipway (schema {archive['schema_version']}).",
            hint="pip install --upgrade shipway",
        )
    found = Predictions(
        ids=tuple(str(name) for name in archive["ids"]),
        labels=_array(archive["labels"], np.int64, 1),
        ranks=_array(archive["ranks"], np.int32, 1),
        top=_array(archive["top"], np.int32, 2),
        classes=int(archive["classes"]),
    )
    sizes = {len(found.ids), len(found.labels), len(found.ranks), len(found.top)}
    if len(sizes) != 1 or found.top.shape[1] != min(LARGEST_N, found.classes):
        raise ValueError("its arrays do not fit each other")
    return found


def _array(value: NDArray[Any], dtype: type[np.generic], ndim: int) -> NDArray[Any]:
    if value.dtype != dtype or value.ndim != ndim:
        raise ValueError(f"an array is {value.dtype} {list(value.shape)}")
    return value
