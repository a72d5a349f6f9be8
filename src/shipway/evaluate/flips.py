"""Where two engines disagree on the same samples, and whether one is really better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shipway.errors import DatasetError, TensorError
from shipway.evaluate.accuracy import Predictions
from shipway.evaluate.results import Flip, Flips

__all__ = ["check_same_samples", "compare_predictions", "mcnemar_p"]


def mcnemar_p(golden_only: int, actual_only: int) -> float:
    """Return the two-sided exact McNemar p-value of two paired counts.

    That is min(1, 2 P(X <= min)), X binomial with golden_only + actual_only trials and probability
    1/2: how likely a difference this large is when both engines are equally good. Integer
    arithmetic, rounded once.

    Args:
        golden_only: Samples only golden got right.
        actual_only: Samples only the engine under test got right.

    Source: Edwards, "Note on the 'correction for continuity' in testing the significance of the
        difference between correlated proportions", 1948; the exact form as in R's exact2x2.

    Example:
        >>> mcnemar_p(6, 0)
        0.03125
        >>> mcnemar_p(0, 0)
        1.0
    """
    trials = golden_only + actual_only
    ways = total = 1
    for chosen in range(min(golden_only, actual_only)):
        ways = ways * (trials - chosen) // (chosen + 1)
        total += ways
    p_value: float = 2 * total / 2**trials
    return min(1.0, p_value)


def compare_predictions(golden: Predictions, actual: Predictions) -> Flips:
    """Pair two engines' predictions, sample by sample; samples either could not read are left out.

    Raises:
        DatasetError: They are not about the same samples with the same labels.
        TensorError: They have different numbers of classes.
    """
    check_same_samples(golden, actual.ids, actual.labels)
    if golden.classes != actual.classes:
        raise TensorError(
            f"Golden has {golden.classes} classes, the engine under test {actual.classes}.",
            hint="Both must be made from the same model.",
        )
    both = (golden.ranks >= 0) & (actual.ranks >= 0)
    golden_right, actual_right = golden.ranks == 0, actual.ranks == 0
    golden_only = int(np.count_nonzero(both & golden_right & ~actual_right))
    actual_only = int(np.count_nonzero(both & actual_right & ~golden_right))
    differs = both & (golden.top[:, 0] != actual.top[:, 0])
    flips = tuple(
        Flip(
            sample=golden.ids[index],
            label=int(golden.labels[index]),
            golden=int(golden.top[index, 0]),
            actual=int(actual.top[index, 0]),
        )
        for index in np.flatnonzero(differs).tolist()
    )
    return Flips(
        compared=int(np.count_nonzero(both)),
        flips=flips,
        golden_only=golden_only,
        actual_only=actual_only,
        mcnemar_p=mcnemar_p(golden_only, actual_only),
    )


def check_same_samples(
    golden: Predictions, ids: tuple[str, ...], labels: NDArray[np.int64]
) -> None:
    """Make sure golden's predictions are about these samples and labels, in this order.

    Raises:
        DatasetError: They are not; the message names the first difference.
    """
    hint = "Evaluate golden again, on the same data set with the same --limit."
    if len(golden.ids) != len(ids):
        raise DatasetError(
            f"Golden was evaluated on {len(golden.ids)} samples, this engine on {len(ids)}.",
            hint=hint,
        )
    rows = zip(golden.ids, golden.labels.tolist(), ids, labels.tolist(), strict=True)
    for golden_id, golden_label, sample, label in rows:
        if (golden_id, golden_label) != (sample, label):
            raise DatasetError(
                f"Golden was evaluated on '{golden_id}' (label {golden_label}) where this data set "
                f"has '{sample}' (label {label}).",
                hint=hint,
            )
