from dataclasses import replace

import pytest

from shipway.report.data import Check
from shipway.report.summary import pick_batch, summarize, write_headline


def test_a_pass_says_how_much_stands_behind_it(samples):
    headline = write_headline(samples.make_passing_report())
    assert (headline.passed, headline.text) == (True, "PASS: ships")
    assert headline.scope == "8 checks, 3 engines"
    assert headline.failed == headline.errors == headline.not_measured == ()


def test_a_failure_counts_and_lists_what_was_missed(report):
    headline = write_headline(report)
    assert headline.text == "FAIL: 3 of 11 checks missed, 1 engine failed"
    assert [check.name for check in headline.failed] == [
        "openvino bf16: outputs equal golden",
        "openvino bf16: flips against golden",
        "aotinductor f32: runs",
    ]


def test_an_engine_error_is_told_once_though_a_check_tells_it_too(report, samples):
    assert write_headline(report).errors == ()
    kept = tuple(check for check in report.checks if check.detail != samples.COMPILER_ERROR)
    headline = write_headline(replace(report, checks=kept))
    assert headline.errors == (("aotinductor f32", samples.COMPILER_ERROR),)


@pytest.mark.parametrize(
    ("count", "text"), [(1, "FAIL: 1 of 1 check missed"), (2, "FAIL: 2 of 2 checks missed")]
)
def test_one_check_is_not_called_checks(samples, count, text):
    checks = (Check("c", passed=False, detail=""),) * count
    report = samples.make_report(checks=checks, engines=())
    assert write_headline(report).text == text


def test_a_report_without_checks_does_not_pass(samples):
    headline = write_headline(samples.make_report(checks=(), engines=()))
    assert headline.text == "FAIL: nothing was checked"


def test_what_was_not_measured_is_said(samples):
    report = samples.make_report(engines=(samples.make_section("onnxruntime"),), proof=None)
    assert write_headline(report).not_measured == (
        "proof of the export",
        "output error",
        "accuracy",
        "latency",
    )


def test_a_row_has_the_figures_of_its_engine(report):
    rows = {(row.name, row.precision): row for row in summarize(report).rows}
    row = rows["openvino", "bf16"]
    assert (row.correct, row.total, row.top1_percent, row.flips) == ("519", "540", "96.11", "5")
    assert (row.relative_l2, row.p50_ms, row.throughput) == ("6.40e-02", "0.131", "7,634")
    assert rows["torch", "f32"].golden
    assert rows["torch", "f32"].flips == "-"
    failed = rows["aotinductor", "f32"]
    assert {failed.correct, failed.flips, failed.p50_ms} == {"-"}
    assert failed.error


def test_columns_nobody_has_a_value_for_are_known(samples):
    summary = summarize(samples.make_report(engines=(samples.make_section("onnxruntime"),)))
    assert (summary.batch, summary.has_accuracy, summary.has_errors) == (None, False, False)


def test_the_batch_most_engines_share_is_shown(samples):
    def section(*batches):
        bench = tuple(samples.make_bench("x", batch, 1.0).to_json() for batch in batches)
        return samples.make_section("x", bench=bench)

    pick = lambda *sections: pick_batch(samples.make_report(engines=sections))  # noqa: E731 - short
    assert pick(section(1, 8), section(8)) == 8
    assert pick(section(8, 1), section(8, 1)) == 1
    assert pick(section(0)) == 0
    assert pick(section()) is None


@pytest.mark.parametrize("change", [{"noise": "noisy"}, {"undisturbed": False}])
def test_a_measurement_that_is_not_to_be_trusted_is_marked(samples, change):
    bench = samples.make_bench("x", 1, 1.0).to_json() | change
    section = samples.make_section("x", bench=(bench,))
    assert summarize(samples.make_report(engines=(section,))).rows[0].noise == "noisy"
