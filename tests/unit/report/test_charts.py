import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shipway.report.charts import Bar, Chart, Row, linear_scale, log_scale, stack

values = st.just(0.0) | st.floats(min_value=1e-6, max_value=1e9)


@given(values, values)
def test_a_linear_axis_covers_its_values_with_few_round_ticks(low, high):
    low, high = sorted((low, high))
    assume(high == low or high - low > 1e-6 * high)
    scale = linear_scale(low, high)
    assert 0 <= scale.place(low) <= scale.place(high) <= 100
    assert 2 <= len(scale.ticks) <= 8
    assert [tick.at for tick in scale.ticks] == sorted({tick.at for tick in scale.ticks})
    for tick in scale.ticks:
        value = float(tick.label.replace(",", ""))
        assert scale.place(value) == pytest.approx(tick.at, abs=0.01)


@given(st.floats(min_value=0, max_value=100), st.floats(min_value=0, max_value=100))
def test_an_axis_in_percent_ends_at_100(low, high):
    low, high = sorted((low, high))
    assume(high == low or high - low > 1e-6)
    scale = linear_scale(low, high, bound=100.0)
    assert max(float(tick.label) for tick in scale.ticks) <= 100
    assert 0 <= scale.place(low) <= scale.place(high) <= 100


@given(st.integers(min_value=1, max_value=10**7))
def test_an_axis_of_counts_has_whole_ticks(most):
    labels = [tick.label for tick in linear_scale(0.0, float(most), whole=True).ticks]
    assert all("." not in label for label in labels)
    assert int(labels[-1].replace(",", "")) >= most
    assert 2 <= len(labels) <= 8


def test_powers_can_be_written_plainly():
    labels = [tick.label for tick in log_scale([0.12, 128.0], plain=True).ticks]
    assert labels == ["0.1", "1", "10", "100", "1000"]


def test_a_linear_axis_reads_as_people_write_it():
    labels = [tick.label for tick in linear_scale(94.1, 98.2, bound=100.0).ticks]
    assert labels == ["94", "95", "96", "97", "98", "99"]
    assert [tick.label for tick in linear_scale(0, 1).ticks][:2] == ["0.0", "0.2"]


@given(st.lists(st.floats(min_value=0, max_value=1e300), max_size=6))
def test_a_log_axis_covers_its_values_and_keeps_their_order(numbers):
    scale = log_scale(numbers)
    places = [scale.place(number) for number in sorted(numbers)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert 2 <= len(scale.ticks) <= 7


def test_zero_has_a_place_of_its_own_left_of_the_powers():
    scale = log_scale([0.0, 1e-7, 1e-5])
    assert scale.ticks[0].label == "0"
    assert scale.place(0.0) == scale.ticks[0].at < scale.place(1e-7)
    assert log_scale([1e-7, 1e-5]).ticks[0].label == "1e-7"


def test_the_smallest_number_there_is_has_a_place():
    assert 0 <= log_scale([math.ulp(0.0), 1.0]).place(math.ulp(0.0)) <= 100


def test_parts_are_laid_end_to_end_and_empty_ones_left_out():
    bars = stack([("lost", 4), ("won", 0), ("neither", 1)], lambda value: 10 * value)
    assert bars == (Bar(0, 40, "lost"), Bar(40, 50, "neither"))
    assert [bar.width for bar in bars] == [40, 10]


def test_the_alternative_text_holds_every_row():
    chart = Chart("Latency, ms", (Row("a", "1.0"), Row("b", "2.0")), ())
    assert chart.alternative == "Latency, ms. a: 1.0; b: 2.0"
