"""Flips and McNemar's test: against scipy, by hand, and for every small table by enumeration."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shipway.errors import DatasetError, TensorError
from shipway.evaluate.accuracy import Predictions
from shipway.evaluate.flips import compare_predictions, mcnemar_p


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_exact_binomial_test(golden_only, actual_only):
    trials = golden_only + actual_only
    expected = stats.binomtest(golden_only, trials, 0.5).pvalue if trials else 1.0
    assert mcnemar_p(golden_only, actual_only) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_enumeration_of_every_outcome():
    """Of all 2**n ways n fair coins fall, count those at least as lopsided."""
    for golden_only, actual_only in product(range(6), repeat=2):
        trials = golden_only + actual_only
        seen = abs(golden_only - actual_only)
        extreme = sum(
            comb(trials, heads) for heads in range(trials + 1) if abs(trials - 2 * heads) >= seen
        )
        assert mcnemar_p(golden_only, actual_only) == float(Fraction(extreme, 2**trials))


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_does_not_care_who_is_golden(golden_only, actual_only):
    p = mcnemar_p(golden_only, actual_only)
    assert p == mcnemar_p(actual_only, golden_only)
    assert 0 < p <= 1


def test_mcnemar_of_huge_counts_neither_overflows_nor_fails():
    assert mcnemar_p(0, 5000) == 0.0
    assert mcnemar_p(2500, 2500) == 1.0


def predicted(top, labels, ranks=None, classes=3, ids=None):
    top = np.array(top, np.int32)
    labels = np.array(labels, np.int64)
    return Predictions(
        ids=ids or tuple(f"s{index}" for index in range(len(labels))),
        labels=labels,
        ranks=np.where(top == labels, 0, 1).astype(np.int32) if ranks is None else np.array(ranks),
        top=np.stack([top] * min(5, classes), axis=1),
        classes=classes,
    )


def test_every_changed_class_is_a_flip_whether_or_not_one_is_right():
    golden = predicted([0, 1, 2, 0, 1], [0, 1, 2, 2, 2])
    actual = predicted([0, 2, 2, 2, 0], [0, 1, 2, 2, 2])
    flips = compare_predictions(golden, actual)
    assert [(f.sample, f.label, f.golden, f.actual) for f in flips.flips] == [
        ("s1", 1, 1, 2),
        ("s3", 2, 0, 2),
        ("s4", 2, 1, 0),
    ]
    assert (flips.compared, flips.golden_only, flips.actual_only) == (5, 1, 1)
    assert flips.mcnemar_p == 1.0


def test_samples_that_either_could_not_read_are_left_out():
    golden = predicted([0, -1, 0], [0, 0, 0], ranks=[0, -1, 0])
    actual = predicted([1, 0, -1], [0, 0, 0], ranks=[1, 0, -1])
    flips = compare_predictions(golden, actual)
    assert flips.compared == 1
    assert [flip.sample for flip in flips.flips] == ["s0"]
    assert (flips.golden_only, flips.actual_only) == (1, 0)


def test_the_same_predictions_have_no_flip():
    golden = predicted([0, 1], [1, 1])
    assert compare_predictions(golden, golden).flips == ()


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (predicted([0], [0]), "on 2 samples, this engine on 1"),
        (predicted([0, 0], [0, 0], ids=("s0", "t")), "on 's1' (label 0) where"),
        (predicted([0, 0], [0, 1]), "'s1' (label 1)"),
    ],
)
def test_other_samples_or_labels_are_refused(actual, message):
    with pytest.raises(DatasetError) as caught:
        compare_predictions(predicted([0, 0], [0, 0]), actual)
    assert message in str(caught.value)


def test_other_classes_are_refused():
    with pytest.raises(TensorError, match="Golden has 3 classes, the engine under test 4"):
        compare_predictions(predicted([0], [0]), predicted([0], [0], classes=4))
