"""A few numbers of a tensor bound its error from below: they accuse nobody wrongly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.compare.facts import bound_by_facts, facts_of
from shipway.trace.statistics import summarize

_VALUES = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32))


@settings(deadline=None, max_examples=200)
@given(golden=_VALUES, data=st.data())
def test_a_bound_is_never_larger_than_the_error(golden, data):
    elements = st.floats(-1e3, 1e3, width=32)
    actual = data.draw(hnp.arrays(np.float32, golden.shape, elements=elements))
    facts = (facts_of(summarize(one)) for one in (golden, actual))
    bound = bound_by_facts(*facts, golden.size, "float32")
    error = actual.astype(np.float64) - golden.astype(np.float64)
    assert bound.max_abs <= np.abs(error).max() * (1 + 1e-9) + 1e-9
    assert bound.rmse <= math.sqrt(np.mean(error**2)) * (1 + 1e-9) + 1e-9


def test_the_same_numbers_differ_by_nothing():
    facts = facts_of(summarize(np.array([1, -2, 3], np.float32)))
    bound = bound_by_facts(facts, facts, 3, "float32")
    assert (bound.relative_l2, bound.max_abs, bound.gain) == (0, 0, 1)


def test_a_shift_is_seen_in_the_mean_alone():
    golden, actual = {"mean": 1.0, "l2": 10.0}, {"mean": 1.5}
    assert bound_by_facts(golden, actual, 100, "float32").relative_l2 == pytest.approx(0.5)


def test_nan_on_one_side_is_seen():
    golden = facts_of(summarize(np.array([1, 2], np.float32)))
    actual = facts_of(summarize(np.array([1, np.nan], np.float32)))
    assert bound_by_facts(golden, actual, 2, "float32").nonfinite_mismatches == 1
    assert bound_by_facts({"max": 2.0}, {"max": 2.0}, 2, "float32").nonfinite_mismatches == 0


def test_integers_are_equal_or_not():
    assert bound_by_facts({"max": 3.0}, {"max": 4.0}, 2, "int64").mismatches == 1
    assert bound_by_facts({"max": 3.0}, {"max": 3.0}, 2, "int64").mismatches == 0


def test_nothing_in_common_says_nothing():
    assert bound_by_facts({}, {"max": 1.0}, 2, "float32") is None
    assert bound_by_facts({"nan_count": 0.0}, {"nan_count": 0.0}, 2, "float32") is None


def test_a_golden_of_zeros():
    assert bound_by_facts({"l2": 0.0}, {"l2": 1.0}, 2, "float32").relative_l2 == math.inf
    assert bound_by_facts({"l2": 0.0}, {"l2": 0.0}, 2, "float32").relative_l2 == 0
