"""A report that holds diagnoses: of two engines, one at fault and one clean."""

import json
import re
from collections import Counter
from importlib import resources

import jsonschema
import pytest

from shipway.errors import ModelError
from shipway.report.data import EngineSection, Report
from shipway.report.html import render_html
from shipway.report.write import read_report, write_report


@pytest.fixture
def diverging(samples, diagnoses):
    """The sample report with a diagnosis of its second and third engine."""
    fault, clean = diagnoses.make_diagnosis(), diagnoses.make_diagnosis(fault=None)
    sections = (
        samples.make_section("onnxruntime", diagnosis=fault.to_json()),
        samples.make_section("openvino", diagnosis=clean.to_json()),
    )
    return samples.make_report(engines=sections)


def test_the_section_shows_each_engines_verdict_fault_and_pictures(diverging):
    text = render_html(diverging)
    section = text[text.index('id="divergence"') : text.index('id="latency"')]
    assert '<b class="bad">FAULT</b> in layers.3.norm2, aten.layer_norm.default' in section
    assert '<b class="ok">CLEAN</b>: 24 tensors within the local limits of f32' in section
    assert section.count('class="card"') == 1
    assert section.count("Relative L2 by depth") == 2
    assert section.count("Tensors by local error (relative L2)") == 2
    assert section.count("relative L2 of each channel") == 1


def test_no_two_elements_share_an_id_and_there_is_still_no_script(samples, diagnoses):
    plain = diagnoses.make_diagnosis().to_json()
    sections = tuple(samples.make_section(name, diagnosis=plain) for name in ("a", "b"))
    text = render_html(samples.make_report(engines=sections))
    ids = Counter(re.findall(r'\bid="([^"]+)"', text))
    assert [name for name, count in ids.items() if count > 1] == []
    assert "<script" not in text


def test_a_report_without_diagnoses_says_so(report):
    assert "no engine was compared with golden tensor by tensor" in render_html(report)


def test_the_page_made_from_the_file_is_the_same(diverging, tmp_path):
    json_path, html_path = write_report(diverging, tmp_path)
    assert render_html(read_report(json_path)) == html_path.read_text()


def test_the_schema_describes_it(diverging, diagnoses, samples):
    text = resources.files("shipway.report").joinpath("schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    plain = diverging.to_json()
    jsonschema.validate(plain, schema)
    described = schema["$defs"]["compared_tensor"]["properties"]
    assert set(described) == set(plain["engines"][0]["diagnosis"]["tensors"][0])
    assert set(schema["$defs"]["diagnosis"]["properties"]) == set(plain["engines"][0]["diagnosis"])
    (culprit,) = plain["engines"][0]["diagnosis"]["culprits"]
    assert set(schema["$defs"]["culprit"]["properties"]) == set(culprit)
    del plain["engines"][0]["diagnosis"]["tensors"][3]["severity"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain, schema)


def test_reports_from_before_there_were_diagnoses_are_read(samples):
    plain = samples.make_section("x").to_json()
    del plain["diagnosis"]
    assert EngineSection.from_json(plain) == samples.make_section("x")


def test_a_damaged_diagnosis_is_a_damaged_report(diverging, tmp_path):
    json_path, _ = write_report(diverging, tmp_path)
    plain = json.loads(json_path.read_text())
    del plain["engines"][0]["diagnosis"]["tensors"][0]["match"]
    json_path.write_text(json.dumps(plain))
    with pytest.raises(ModelError, match="KeyError: 'match'"):
        read_report(json_path)
    plain["engines"][0]["diagnosis"] = "none"
    with pytest.raises(ModelError, match="'diagnosis' of engines"):
        Report.from_json(plain)
