import io
import re

import pytest
from rich.console import Console

from shipway.report.data import Report
from shipway.report.terminal import render_terminal


def show(report, width=80, **options):
    stream = io.StringIO()
    Console(file=stream, width=width, **options).print(render_terminal(report))
    return stream.getvalue()


def words(text):
    return " ".join(text.split())


def test_the_verdict_is_the_first_line(report, samples):
    assert show(report).splitlines()[0] == "FAIL: 3 of 11 checks missed, 1 engine failed"
    assert show(samples.make_passing_report()).splitlines()[0] == "PASS: ships"


def test_missed_checks_are_told_whole_before_the_table(report, samples):
    text = words(show(report))
    missed = f"missed aotinductor f32: runs: {samples.COMPILER_ERROR}"
    assert missed in text
    assert "missed openvino bf16: flips against golden: 5 of 540 (at most 1)" in text
    assert text.index(missed) < text.index("engine precision")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_one_line_an_engine_with_nothing_cut(report, width):
    text = show(report, width)
    assert all(len(line) <= width for line in text.splitlines())
    rows = [words(line) for line in text.splitlines()]
    assert "torch f32 523 96.85% - - 0.912 1,096 golden" in rows
    assert "onnxruntime f32 523 96.85% 0 3.10e-07 0.214 4,673 ran" in rows
    assert "openvino bf16 519 96.11% 5 6.40e-02 0.131 7,634 ran" in rows
    assert "aotinductor f32 - - - - - failed" in rows
    assert "…" not in text


def test_the_largest_data_set_still_fits_80_columns(samples):
    evaluation = samples.make_evaluation("x", 523, samples.make_flips()).to_json()
    evaluation["top"][0] |= {"correct": 39_925, "total": 50_000, "rate": 0.7985}
    section = samples.make_section(
        "onnxruntime",
        comparison=samples.make_comparison("x", "f32", 3.1e-7).to_json(),
        evaluation=evaluation,
        bench=(samples.make_bench("x", 1, 0.214).to_json(),),
    )
    text = show(samples.make_report(engines=(section,)))
    assert "onnxruntime f32 39,925 79.85% 0 3.10e-07 0.214 4,673 ran" in words(text)
    assert "Top-1 of 50,000 samples; p50 and throughput at batch 1" in text


def test_a_narrow_terminal_folds_long_names_and_cuts_nothing_of_them(samples):
    section = samples.make_section("an-engine-with-a-very-long-name-indeed")
    text = show(samples.make_report(checks=(), engines=(section,), notes=()), width=40)
    assert "…" not in text
    first = [line.split(" ")[0] for line in text.splitlines()]
    assert "an-engine-with-a-very-long-name-indeed" in "".join(first)


def test_without_colour_there_is_no_escape_sequence(report):
    assert "\x1b" not in show(report)


def test_a_coloured_terminal_says_the_same_words(report):
    coloured = show(report, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == show(report)


def test_hostile_text_is_neither_obeyed_nor_read_as_markup(samples):
    report = samples.make_report(title="[bold red]x[/]\x1b]0;owned\x07", notes=("[/nothing]",))
    text = show(report)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert r"[bold red]x[/]\x1b]0;owned\x07" in text
    assert "[/nothing]" in text


def test_an_ascii_terminal_can_show_it(report):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=stream, width=80).print(render_terminal(report))
    stream.flush()
    assert b"FAIL: 3 of 11" in stream.buffer.getvalue()


def test_columns_without_values_are_left_out(samples):
    text = show(samples.make_report(checks=(), engines=(samples.make_section("x"),), notes=()))
    assert "Top-1" not in text
    assert "p50" not in text
    assert "not measured: output error, accuracy, latency" in words(text)


def test_a_report_of_nothing_can_be_shown():
    text = show(Report("nothing", "", {}, None, (), (), (), {}, ()))
    assert text.splitlines()[0] == "FAIL: nothing was checked"


def test_noise_is_shown(samples):
    bench = samples.make_bench("x", 1, 0.5, noise="too noisy").to_json()
    engines = (samples.make_section("x", bench=(bench,)),)
    assert "noisy" in show(samples.make_report(engines=engines, notes=()))


def test_a_model_without_a_batch_dimension_is_timed_by_the_call(samples):
    bench = samples.make_bench("x", 0, 0.5).to_json()
    text = show(samples.make_report(engines=(samples.make_section("x", bench=(bench,)),)))
    assert "calls/s" in text
    assert "at batch" not in text
