import math
from dataclasses import replace

import pytest

from shipway.compare.results import Comparison, Coverage, OutputComparison, Verdict
from shipway.compare.verdict import limits_for
from shipway.report.output_error import (
    COLUMNS,
    lay_out_errors,
    worst_output,
    worst_relative_l2,
)


@pytest.fixture
def section(report):
    return lay_out_errors(report)


def cell(row, metric):
    return row.cells[[column.metric for column in COLUMNS].index(metric)]


def compare(samples, *outputs, skipped=None):
    """A comparison with one output for each (name, relative L2, limits, passed)."""
    return Comparison(
        "torch f32",
        "x f32",
        "f32",
        tuple(
            OutputComparison(
                name, "float32", (2, 3), samples.make_metrics(value), Verdict(passed, (), limits)
            )
            for name, value, limits, passed in outputs
        ),
        Coverage(len(outputs), skipped or {}),
    ).to_json()


def test_without_a_comparison_there_is_no_section(samples):
    assert lay_out_errors(samples.make_report(engines=(samples.make_section("x"),))) is None


def test_a_row_shows_each_metric_with_its_limit(section):
    row = section.rows[0]
    assert (row.engine, row.output, row.spec) == ("onnxruntime f32", "logits", "float32[540,10]")
    assert cell(row, "relative_l2").value == "3.10e-07"
    assert cell(row, "relative_l2").limit == f"limit {limits_for('f32').relative_l2:.3g}"
    assert cell(row, "worst_channel").where == "slice 7, axis 1"
    assert cell(row, "cosine").value == "1.00000000"
    assert cell(row, "max_ulp").value == "212"
    assert cell(row, "cosine").limit == ""


def test_every_limit_in_force_has_a_column(report):
    """A new limit of the comparison must be shown beside its value."""
    shown = {column.metric for column in COLUMNS}
    for engine in report.engines:
        for output in engine.comparison["outputs"] if engine.comparison else ():
            assert set(output["verdict"]["limits"]) <= shown


def test_a_failed_row_gives_the_reasons(section):
    failed = section.rows[2]
    assert not failed.passed
    assert failed.reasons == ("relative L2 is 0.064, limit 0.0625",)


def test_an_output_without_difference_has_an_empty_snr_and_a_place_on_the_chart(samples):
    comparison = samples.make_comparison("x f32", "f32", 0.0).to_json()
    section = lay_out_errors(
        samples.make_report(engines=(samples.make_section("x", comparison=comparison),))
    )
    assert cell(section.rows[0], "snr_db").value == "-"
    assert cell(section.rows[0], "relative_l2").value == "0"
    assert section.chart.ticks[0].label == "0"


def test_an_infinite_error_is_shown_and_the_chart_does_without_it(samples):
    comparison = samples.make_comparison("x f32", "f32", math.inf, gain=None).to_json()
    section = lay_out_errors(
        samples.make_report(engines=(samples.make_section("x", comparison=comparison),))
    )
    assert cell(section.rows[0], "relative_l2").value == "inf"
    assert not section.rows[0].passed
    assert [mark.shape for mark in section.chart.rows[0].marks] == ["limit"]
    assert section.chart.rows[0].value.startswith("inf")


def test_what_was_skipped_is_said_with_the_reason(samples, section):
    assert section.coverage[0] == ("onnxruntime f32", "1 compared, none skipped")
    comparison = compare(samples, ("a", 1e-7, {}, True), skipped={"aux": "only golden has it"})
    found = lay_out_errors(
        samples.make_report(engines=(samples.make_section("x", comparison=comparison),))
    )
    assert found.coverage == (("x f32", "1 compared, 1 skipped (aux: only golden has it)"),)


def test_engines_without_a_comparison_are_named_and_golden_is_not(section):
    assert [label for label, _ in section.missing] == ["aotinductor f32"]


def test_the_worst_output_is_the_one_nearest_to_or_furthest_beyond_its_limit(samples):
    limits = {"relative_l2": 1e-5}
    comparison = compare(
        samples,
        ("near", 9e-6, limits, True),
        ("large", 1e-3, {"relative_l2": 1e-1}, True),
        ("free", 0.0, {}, True),
    )
    assert worst_output(comparison)["name"] == "near"
    assert worst_relative_l2(comparison) == 1e-3
    assert worst_output(compare(samples)) is None


def test_no_number_is_given_where_a_failed_output_has_none(samples):
    comparison = compare(samples, ("a", 1e-7, {}, True), ("b", 1e-7, {}, False))
    comparison["outputs"][1]["metrics"]["relative_l2"] = None
    assert worst_relative_l2(comparison) is None
    assert worst_relative_l2(None) is None


def test_the_chart_has_dot_and_limit_of_each_engine(report, section):
    chart = section.chart
    assert [row.label for row in chart.rows] == [
        "onnxruntime f32",
        "openvino f32",
        "openvino bf16",
    ]
    sides = [{mark.shape: mark.at for mark in row.marks} for row in chart.rows]
    assert [side["dot"] < side["limit"] for side in sides] == [True, True, False]
    assert lay_out_errors(replace(report, engines=report.engines[1:2])).chart is not None
