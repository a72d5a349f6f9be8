import pytest

from shipway.report.latency import lay_out_latency


@pytest.fixture
def rows(report):
    section = lay_out_latency(report)
    return {(row.label, row.batch): row for group in section.groups for row in group}


def lay_out(samples, *sections):
    return lay_out_latency(samples.make_report(engines=sections))


def test_without_a_measurement_there_is_no_section(samples):
    assert lay_out(samples, samples.make_section("x")) is None


def test_rows_are_grouped_by_batch_size(report):
    groups = lay_out_latency(report).groups
    assert [{row.batch for row in group} for group in groups] == [{"1"}, {"8"}]


def test_latency_is_a_batch_and_a_sample(rows):
    row = rows["torch f32", "8"]
    assert (row.p50, row.p90, row.p99, row.sample) == ("3.480", "3.863", "4.802", "0.435")
    assert row.interval == "3.410 to 3.550"
    assert row.throughput == "2,299"


def test_a_percentile_without_enough_calls_is_said_to_be_so(rows):
    assert rows["openvino bf16", "1"].p99 == "n too small"
    assert rows["openvino bf16", "1"].p90 == "0.145"


def test_speed_up_is_against_golden_at_the_same_batch(rows):
    assert rows["torch f32", "1"].speedup == "-"
    assert rows["onnxruntime f32", "1"].speedup == "4.26"
    assert rows["onnxruntime f32", "8"].speedup == "2.62"


def test_no_speed_up_is_claimed_where_an_engine_was_noisy(rows):
    assert rows["openvino f32", "8"].speedup == "noisy"
    assert rows["openvino f32", "8"].noise == "noisy, 17\N{NO-BREAK SPACE}%"
    assert not rows["openvino f32", "8"].quiet
    assert rows["openvino f32", "8"].warmup == "64, unsettled"


@pytest.mark.parametrize("change", [{"noise": "too noisy"}, {"undisturbed": False}])
def test_no_speed_up_is_claimed_where_golden_cannot_be_trusted(samples, change):
    golden = samples.make_bench("torch f32", 1, 2.0).to_json() | change
    actual = samples.make_bench("x f32", 1, 1.0).to_json()
    section = lay_out(
        samples,
        samples.make_section("torch", golden=True, bench=(golden,)),
        samples.make_section("x", bench=(actual,)),
    )
    assert section.groups[0][1].speedup == "noisy"
    assert section.noisy


def test_a_disturbed_measurement_says_so(samples):
    bench = samples.make_bench("x", 1, 1.0).to_json() | {"undisturbed": False}
    row = lay_out(samples, samples.make_section("x", bench=(bench,))).groups[0][0]
    assert row.noise == "quiet, 4\N{NO-BREAK SPACE}%, disturbed"


def test_without_golden_there_is_no_speed_up(samples):
    bench = samples.make_bench("x", 1, 1.0).to_json()
    assert lay_out(samples, samples.make_section("x", bench=(bench,))).groups[0][0].speedup == "-"


def test_a_model_without_a_batch_dimension_is_timed_by_the_call(samples):
    bench = samples.make_bench("x", 0, 4.0).to_json()
    section = lay_out(samples, samples.make_section("x", bench=(bench,)))
    row = section.groups[0][0]
    assert (section.unit, row.batch, row.sample) == ("calls", "none", "-")
    assert section.charts[0].title.startswith("Latency of one call")


def test_too_few_rounds_give_no_interval(samples):
    bench = samples.make_bench("x", 1, 4.0).to_json()
    bench["latency"] |= {"p50_low_ms": None, "p50_high_ms": None}
    assert lay_out(samples, samples.make_section("x", bench=(bench,))).groups[0][0].interval == ""


def test_engines_that_were_not_timed_are_named(report):
    assert [label for label, _ in lay_out_latency(report).missing] == ["aotinductor f32"]


def test_a_single_slow_percentile_does_not_squash_the_other_engines(samples):
    slow = samples.make_bench("a", 1, 0.5).to_json()
    slow["latency"]["p99_ms"] = 128.0
    quick = samples.make_bench("b", 1, 0.12).to_json()
    section = lay_out(
        samples,
        samples.make_section("a", bench=(slow,)),
        samples.make_section("b", bench=(quick,)),
    )
    chart = section.charts[0]
    assert "log scale" in chart.title
    first, second = ({mark.shape: mark.at for mark in row.marks}["dot"] for row in chart.rows)
    assert first - second > 10
    assert (
        "log scale"
        not in lay_out(samples, samples.make_section("a", bench=(quick,))).charts[0].title
    )


def test_a_chart_shows_the_percentiles_in_order_and_leaves_unknown_ones_out(report):
    chart = lay_out_latency(report).charts[0]
    for row in chart.rows:
        places = {mark.shape: mark.at for mark in row.marks}
        assert places["dot"] < places["ring"] < places.get("tick", 101)
    assert {mark.shape for mark in chart.rows[3].marks} == {"dot", "ring"}
    assert chart.rows[3].value == "0.131 / 0.145 / -"
