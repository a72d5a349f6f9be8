import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import ModelError
from shipway.report.data import Check, EngineSection, Report

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\udcff"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_report_reads_back_as_it_was_written(report):
    plain = report.to_json()
    assert Report.from_json(json.loads(json.dumps(plain))).to_json() == plain
    assert Report.from_json(plain).passed is report.passed is False


def test_parts_read_back_alone(samples):
    for part in (*samples.make_checks(), *samples.make_engines()):
        assert type(part).from_json(part.to_json()).to_json() == part.to_json()


@given(environment=st.dictionaries(st.text(), JSON, max_size=3), title=st.text())
def test_any_content_becomes_strict_utf8_json_and_stays_the_same_when_read(environment, title):
    report = Report(title, "", {}, None, (), (), (title,), environment, ())
    text = json.dumps(report.to_json(), allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")
    assert Report.from_json(json.loads(text)).to_json() == report.to_json()


def test_nan_becomes_null_and_infinity_text(samples):
    section = samples.make_section(
        "x", artifact={"a": math.nan, "b": np.float32("inf"), "c": np.int64(3), "d": (-math.inf,)}
    )
    assert section.to_json()["artifact"] == {"a": None, "b": "inf", "c": 3, "d": ["-inf"]}


@pytest.mark.parametrize(
    ("checks", "error", "passed"),
    [
        ((True, True), "", True),
        ((True, False), "", False),
        ((True,), "no compiler", False),
        ((), "", False),
    ],
    ids=["all-passed", "one-missed", "engine-failed", "nothing-checked"],
)
def test_a_report_passes_when_something_was_checked_and_all_went_well(
    samples, checks, error, passed
):
    report = samples.make_report(
        checks=tuple(Check("c", ok, "") for ok in checks),
        engines=(
            samples.make_section("torch", golden=True),
            samples.make_section("x", error=error),
        ),
    )
    assert report.passed is passed
    assert report.to_json()["passed"] is passed


def test_golden_is_the_section_marked_so_and_may_be_absent(report):
    assert report.golden is report.engines[0]
    assert replace(report, engines=report.engines[1:]).golden is None


def test_a_newer_schema_is_refused_with_the_way_out(report):
    with pytest.raises(ModelError, match="schema 2; this Shipway reads up to 1") as caught:
        Report.from_json(report.to_json() | {"schema_version": 2})
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("key", ["schema_version", "title", "checks", "engines", "reproduce"])
def test_a_missing_part_is_named(report, key):
    plain = report.to_json()
    del plain[key]
    with pytest.raises(ModelError, match=f"the report has no '{key}'"):
        Report.from_json(plain)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"title": 3}, r"'title' of the report is of the wrong kind \(int\)"),
        ({"schema_version": True}, r"'schema_version' of the report is of the wrong kind \(bool\)"),
        ({"checks": [{"name": "x"}]}, r"checks\[0\] has no 'passed'"),
        ({"engines": [3]}, r"engines\[0\] is not an object"),
        ({"notes": [3]}, r"notes\[0\] is not text"),
        ({"engines": "x"}, r"'engines' of the report is of the wrong kind \(str\)"),
    ],
)
def test_a_part_of_the_wrong_kind_is_named(report, change, named):
    with pytest.raises(ModelError, match=named):
        Report.from_json(report.to_json() | change)


def test_a_bench_entry_that_is_no_object_is_named(report):
    plain = report.engines[0].to_json() | {"bench": [3]}
    with pytest.raises(ModelError, match=r"bench\[0\] is not an object"):
        EngineSection.from_json(plain)


def test_a_list_is_not_a_report():
    with pytest.raises(ModelError, match="the report is not an object"):
        Report.from_json([])
