"""Places that are given only where the measurements can tell engines apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.bench.ranking import rank
from shipway.bench.results import BenchResult, Latency


def result(engine, p50, low=None, high=None, *, batch=1, noise="quiet"):
    latency = Latency(100, p50, p50, p50, None, p50, p50, 0.3 * p50, low, high)
    return BenchResult(engine, batch, latency, 0.0, 0.0, 10, True, noise, 1, {}, 0.0, 0.0)


def places(*results):
    (ranking,) = rank(results)
    return {place.engine: place.place for place in ranking.places}


def test_clearly_different_engines_get_places_of_their_own():
    found = rank([result("slow", 9, 8, 10), result("fast", 1, 1, 2), result("mid", 5, 4, 6)])
    assert [(place.engine, place.place) for place in found[0].places] == [
        ("fast", 1),
        ("mid", 2),
        ("slow", 3),
    ]
    assert found[0].fastest == "fast"


def test_overlapping_intervals_share_a_place_and_none_is_called_fastest():
    found = rank([result("a", 5, 4, 6), result("b", 5.5, 5, 7), result("c", 9, 8, 10)])
    assert [place.place for place in found[0].places] == [1, 1, 3]
    assert found[0].fastest is None


def test_a_chain_of_overlaps_is_no_tie_of_all():
    assert places(result("a", 2, 1, 3), result("b", 4, 2.5, 5), result("c", 6, 4, 7)) == {
        "a": 1,
        "b": 1,
        "c": 2,
    }


def test_intervals_that_touch_overlap():
    assert places(result("a", 2, 1, 3), result("b", 4, 3, 5)) == {"a": 1, "b": 1}


def test_too_noisy_is_not_ranked_comes_last_and_keeps_the_others_from_being_fastest():
    (found,) = rank([result("noisy", 1, 0.5, 2, noise="too noisy"), result("a", 5, 4, 6)])
    assert [(place.engine, place.place) for place in found.places] == [("a", 1), ("noisy", None)]
    assert (
        found.places[1].why_unranked == "too noisy: half of the calls spread over 30% of the median"
    )
    assert found.fastest is None


def test_noisy_is_still_ranked():
    assert places(result("a", 1, 0.9, 1.1, noise="noisy"), result("b", 5, 4, 6)) == {"a": 1, "b": 2}


def test_without_an_interval_there_is_no_place():
    (found,) = rank([result("a", 1), result("b", 5, 4, 6)])
    assert found.places[1].why_unranked == "too few rounds for a confidence interval"


def test_an_engine_alone_is_the_fastest():
    assert rank([result("a", 5, 4, 6)])[0].fastest == "a"


def test_batches_are_ranked_apart():
    found = rank(
        [
            result("a", 1, 1, 1, batch=8),
            result("b", 2, 2, 2, batch=8),
            result("a", 4, 4, 4, batch=1),
            result("b", 3, 3, 3, batch=1),
        ]
    )
    assert [(ranking.batch, ranking.fastest) for ranking in found] == [(8, "a"), (1, "b")]


def test_nothing_ranks_to_nothing():
    assert rank([]) == ()


def test_a_ranking_is_plain_data():
    data = json.loads(json.dumps(rank([result("a", 5, 4, 6)])[0].to_json()))
    assert data["fastest"] == "a"
    assert data["places"][0]["p50_low_ms"] == 4


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_a_place_is_one_more_than_the_engines_certainly_faster(intervals):
    results = [
        result(str(k), p50, p50 - left, p50 + right)
        for k, (p50, left, right) in enumerate(intervals)
    ]
    found = places(*results)
    assert min(found.values()) == 1
    for k, (p50, left, _) in enumerate(intervals):
        faster = sum(other + right < p50 - left for other, _, right in intervals)
        assert found[str(k)] == 1 + faster


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_results_does_not_matter(order):
    results = [result("a", 2, 1, 3), result("b", 4, 2.5, 5), result("c", 6, 4, 7)]
    assert rank(results[::order]) == rank(results)
