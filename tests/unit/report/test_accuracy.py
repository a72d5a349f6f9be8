from dataclasses import replace

import pytest

from shipway.evaluate.results import Flip
from shipway.report import accuracy
from shipway.report.accuracy import lay_out_accuracy


@pytest.fixture
def section(report):
    return lay_out_accuracy(report)


def test_without_an_evaluation_there_is_no_section(samples):
    assert lay_out_accuracy(samples.make_report(engines=(samples.make_section("x"),))) is None


def test_every_top_n_has_count_percent_and_interval(section):
    assert section.top_names == (1, 2, 3, 4, 5)
    top1 = section.rows[0].top[0]
    assert (top1.correct, top1.percent, top1.interval) == ("523", "96.85", "95.02 to 98.02")


def test_the_difference_is_in_points_and_golden_has_none(section):
    assert [row.difference for row in section.rows] == [
        "-",
        "0.00",
        "\N{MINUS SIGN}0.19",
        "\N{MINUS SIGN}0.74",
    ]
    assert section.rows[0].flips == "-"
    assert (section.rows[3].flips, section.rows[3].mcnemar_p) == ("5", "0.125")


def test_engines_with_fewer_classes_leave_their_cells_empty(report, samples):
    evaluation = report.engines[1].evaluation | {"top": report.engines[1].evaluation["top"][:3]}
    engines = (report.engines[0], replace(report.engines[1], evaluation=evaluation))
    rows = lay_out_accuracy(samples.make_report(engines=engines)).rows
    assert rows[1].top[3:] == (None, None)


def test_rates_on_different_samples_are_not_subtracted(report, samples):
    other = report.engines[1].evaluation | {"dataset_digest": "0" * 64}
    engines = (report.engines[0], replace(report.engines[1], evaluation=other))
    section = lay_out_accuracy(samples.make_report(engines=engines))
    assert section.rows[1].difference == "-"
    assert [data["engines"] for data in section.datasets] == ["torch f32", "onnxruntime f32"]


def test_every_flip_says_who_was_right(section):
    assert section.flips_total == len(section.flips) == 6
    assert [flip.right for flip in section.flips] == ["golden"] * 5 + ["neither"]


def test_a_flip_the_engine_got_right_is_the_engines(samples):
    flips = samples.make_flips(Flip("s", 9, 3, 9), actual_only=1)
    evaluation = samples.make_evaluation("x", 523, flips).to_json()
    report = samples.make_report(engines=(samples.make_section("x", evaluation=evaluation),))
    assert lay_out_accuracy(report).flips[0].right == "engine"


def test_a_long_list_of_flips_is_cut_and_its_length_told(samples):
    many = samples.make_flips(*(Flip(f"s{i}", 3, 3, 9) for i in range(250)), golden_only=250)
    evaluation = samples.make_evaluation("x", 523, many).to_json()
    report = samples.make_report(engines=(samples.make_section("x", evaluation=evaluation),))
    section = lay_out_accuracy(report)
    assert (len(section.flips), section.flips_total) == (accuracy.FLIPS_SHOWN, 250)


def test_bad_samples_are_named_once_with_the_engines_that_met_them(report, samples, section):
    assert [(bad.sample, bad.engines) for bad in section.bad] == [("digit-1311.png", "all")]
    evaluation = report.engines[1].evaluation | {"bad": []}
    engines = (report.engines[0], replace(report.engines[1], evaluation=evaluation))
    only = lay_out_accuracy(samples.make_report(engines=engines)).bad
    assert [bad.engines for bad in only] == ["torch f32"]


def test_engines_without_an_evaluation_are_named_with_the_reason(section, samples, report):
    assert [label for label, _ in section.missing] == ["aotinductor f32"]
    assert "failed" in section.missing[0][1]
    engines = (report.engines[0], samples.make_section("x"))
    missing = lay_out_accuracy(samples.make_report(engines=engines)).missing
    assert missing == (("x f32", "not evaluated"),)


def test_notes_of_the_evaluations_are_told_once(section):
    assert section.notes == ("3 images without a label were left out.",)


def test_the_top1_chart_has_the_interval_around_the_value_and_goldens_line(section):
    top1, flips = section.charts
    for row in top1.rows:
        assert row.bars[0].start < row.marks[0].at < row.bars[0].end
    assert top1.reference == top1.rows[0].marks[0].at
    assert [row.value for row in flips.rows] == ["0 (0 / 0 / 0)", "1 (1 / 0 / 0)", "5 (4 / 0 / 1)"]


def test_a_flip_only_one_side_got_right_is_drawn_as_that_sides(samples):
    found = samples.make_flips(
        *(Flip(f"s{i}", 3, 3, 9) for i in range(4)), golden_only=1, actual_only=2
    )
    evaluation = samples.make_evaluation("x", 523, found).to_json()
    engines = (samples.make_section("x", evaluation=evaluation),)
    row = lay_out_accuracy(samples.make_report(engines=engines)).charts[1].rows[0]
    assert row.value == "4 (1 / 2 / 1)"
    lost, won, neither = row.bars
    assert [lost.kind, won.kind, neither.kind] == ["lost", "won", "neither"]
    assert won.width == pytest.approx(2 * lost.width) == pytest.approx(2 * neither.width)
    assert (won.start, neither.start) == (lost.end, won.end)


def test_without_flips_there_is_no_chart_of_them(report, samples):
    section = lay_out_accuracy(samples.make_report(engines=report.engines[:2]))
    assert len(section.charts) == 1
    assert section.flips == ()
