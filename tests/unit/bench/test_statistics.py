"""Order statistics, and how far they can be trusted."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shipway.bench.statistics import (
    median_interval,
    nearest_rank,
    noise_of,
    samples_needed,
    summarize_latency,
)

NUMBERS = st.lists(st.integers(1, 10**9), min_size=1, max_size=200)


@given(NUMBERS, st.integers(1, 100))
def test_nearest_rank_is_a_measured_value_with_enough_values_at_or_below_it(values, percent):
    ordered = sorted(values)
    found = nearest_rank(ordered, percent / 100)
    assert found in values
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)


@given(NUMBERS, st.sampled_from([0.25, 0.5, 0.9, 0.99, 1.0]))
def test_nearest_rank_is_the_inverted_cdf_of_numpy(values, quantile):
    expected = np.quantile(values, quantile, method="inverted_cdf")
    assert nearest_rank(sorted(values), quantile) == expected


@pytest.mark.parametrize(("quantile", "count"), [(0.90, 64), (0.99, 662), (0.999, 6636)])
def test_samples_needed_are_those_of_mlperf(quantile, count):
    assert samples_needed(quantile) == count


@given(st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.sampled_from([0.9, 0.95, 0.99]))
def test_samples_needed_is_the_smallest_number_that_does(quantile, confidence):
    count = samples_needed(quantile, confidence)
    above = [stats.binom.cdf(1, n, 1 - quantile) for n in (count - 1, count)]
    assert above[1] <= 1 - confidence + 1e-12
    assert count == 1 or above[0] > 1 - confidence - 1e-12


@given(st.integers(1, 400), st.sampled_from([0.9, 0.95, 0.99]))
def test_median_interval_is_the_narrowest_the_sign_test_allows(count, confidence):
    found = median_interval(range(1, count + 1), confidence)
    tails = [stats.binom.cdf(rank - 1, count, 0.5) for rank in range(1, count // 2 + 1)]
    allowed = [rank for rank, tail in enumerate(tails, 1) if tail <= (1 - confidence) / 2 + 1e-15]
    assert found == ((allowed[-1], count + 1 - allowed[-1]) if allowed else None)


@pytest.mark.parametrize(("count", "known"), [(0, False), (1, False), (5, False), (6, True)])
def test_median_interval_needs_six_values(count, known):
    assert (median_interval(range(count)) is not None) == known


def test_interval_from_rounds_holds_the_median_where_one_from_calls_does_not():
    """Calls of one round share a slow or fast machine: 1000 calls in 10 rounds are no 1000 draws."""
    generator = np.random.default_rng(0)
    held = {"rounds": 0, "calls": 0}
    for _ in range(200):
        machine = generator.normal(0, 0.05, (10, 1))
        calls = 10 + machine + generator.normal(0, 0.01, (10, 100))
        low, high = median_interval(np.median(calls, axis=1).tolist())
        held["rounds"] += low <= 10 <= high
        low, high = median_interval(calls.ravel().tolist())
        held["calls"] += low <= 10 <= high
    assert held["rounds"] >= 0.92 * 200
    assert held["calls"] < 0.6 * 200


@given(NUMBERS)
def test_latency_is_in_milliseconds_and_ordered(samples_ns):
    found = summarize_latency(samples_ns)
    assert found.count == len(samples_ns)
    assert found.min_ms == pytest.approx(min(samples_ns) / 1e6)
    assert found.max_ms == pytest.approx(max(samples_ns) / 1e6)
    assert found.mean_ms == pytest.approx(sum(samples_ns) / len(samples_ns) / 1e6)
    known = [found.min_ms, found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms]
    known = [value for value in known if value is not None]
    assert known == sorted(known)
    assert found.iqr_ms >= 0


@pytest.mark.parametrize(
    ("count", "p90", "p99"),
    [(63, False, False), (64, True, False), (661, True, False), (662, True, True)],
)
def test_a_percentile_without_enough_samples_is_left_out(count, p90, p99):
    found = summarize_latency(range(1, count + 1))
    assert (found.p90_ms is not None, found.p99_ms is not None) == (p90, p99)


def test_one_sample_is_enough_for_a_median():
    found = summarize_latency([2_000_000])
    assert (found.p50_ms, found.iqr_ms, found.p50_low_ms) == (2.0, 0.0, None)


def test_the_interval_holds_the_median_it_belongs_to():
    """Fast rounds have more calls, so the median of all calls may leave that of the rounds."""
    found = summarize_latency([1_000_000] * 90 + [2_000_000] * 10, [2_000_000] * 9 + [1_000_000])
    assert found.p50_ms == 1.0
    assert found.p50_low_ms <= found.p50_ms <= found.p50_high_ms


@pytest.mark.parametrize(
    ("iqr_ms", "noise"),
    [(0.0, "quiet"), (1.0, "quiet"), (1.01, "noisy"), (2.5, "noisy"), (2.51, "too noisy")],
)
def test_noise_is_the_spread_over_the_median(iqr_ms, noise):
    latency = dataclasses.replace(summarize_latency([10_000_000]), iqr_ms=iqr_ms)
    assert noise_of(latency) == noise


def test_a_latency_of_zero_breaks_nothing():
    found = summarize_latency([0, 0, 0])
    assert noise_of(found) == "quiet"
    assert math.isfinite(found.mean_ms)
