import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from shipway.errors import UsageError
from shipway.report.diagnosis_page import render_diagnosis

HOSTILE = "</title><script>alert(1)</script>\x1b[31m"


class Page(HTMLParser):
    """Text of the page by tag, the attributes of all elements, and the rows of its big table."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag == "td" and self.rows:
            self.rows[-1].append("")
        self.open.append(tag)

    def handle_data(self, data):
        if self.rows and self.rows[-1] and self.open[-1] == "td":
            self.rows[-1][-1] += data.strip()


def test_the_verdict_stands_in_title_and_band(diagnoses):
    text = render_diagnosis(diagnoses.make_diagnosis())
    assert "<title>FAULT: onnxruntime:f32</title>" in text
    assert re.search(r'id="verdict-title">FAULT in layers\.3\.norm2, aten', text)
    clean = render_diagnosis(diagnoses.make_diagnosis(fault=None))
    assert 'class="band pass"' in clean
    assert "CLEAN: 24 tensors within the local limits of f32" in clean


def test_every_tensor_is_a_row(diagnoses):
    rows = [
        row for row in Page(render_diagnosis(diagnoses.make_diagnosis())).rows if len(row) == 12
    ]
    assert [row[0] for row in rows] == [str(index) for index in range(24)]
    assert rows[9][1:4] == ["FAULT", "aten.layer_norm.default", "norm2"]


def test_nothing_on_the_page_is_fetched_and_one_script_may_run(diagnoses):
    text = render_diagnosis(diagnoses.make_diagnosis())
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"img", "iframe", "object", "embed", "base"}
    links = [attrs["href"] for tag, attrs in page.tags if tag == "link"]
    assert links == ["data:,"]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_hostile_names_are_text(diagnoses):
    diagnosis = diagnoses.make_diagnosis(
        golden=HOSTILE, actual=HOSTILE, unmatched={HOSTILE: HOSTILE}, golden_only={HOSTILE: "x"}
    )
    evil = replace(
        diagnosis.tensors[9], golden=HOSTILE, code=HOSTILE, source=HOSTILE, module=HOSTILE
    )
    culprit = replace(diagnosis.culprits[0], tensor=evil, inputs={HOSTILE: 1.0}, replay=HOSTILE)
    tensors = (*diagnosis.tensors[:9], evil, *diagnosis.tensors[10:])
    text = render_diagnosis(replace(diagnosis, tensors=tensors, culprits=(culprit,)))
    assert text.count("<script>") == 1
    assert text.count("</title>") == text.count("<title>")
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_different_inputs_are_named_and_no_fault_is(diagnoses):
    text = render_diagnosis(
        diagnoses.make_diagnosis(
            tensors=(), culprits=(), input_problems=("x: other numbers", "y: absent")
        )
    )
    assert "DIFFERENT INPUTS: x: other numbers (and 1 more)" in text
    assert "<li>y: absent</li>" in text
    assert "Not looked for: the inputs differ." in text


def test_what_was_left_out_is_listed_in_full(diagnoses):
    reasons = {f"view_{index}": f"fused into 'MatMul_{index}'" for index in range(40)}
    text = render_diagnosis(diagnoses.make_diagnosis(golden_only=reasons))
    assert "Tensors of golden that the engine does not show: 40" in text
    assert all(f"<td>{name}<" in text for name in reasons)


def test_five_thousand_tensors_stay_below_two_megabytes(diagnoses):
    base = [diagnoses.make_tensor(index, "t") for index in range(10)]
    name = "/model/encoder/layers.{}/attention/self/MatMul_{}_output_0"
    tensors = [
        replace(base[i % 10], order=i, golden=name.format(i // 20, i), actual=f"val_{i}")
        for i in range(5000)
    ]
    text = render_diagnosis(diagnoses.make_diagnosis(tensors=tuple(tensors), culprits=()))
    assert text.count("<tr") > 5000
    assert len(text.encode()) < 2_000_000


def test_a_precision_without_limits_is_refused(diagnoses):
    with pytest.raises(UsageError, match="No limits for the precision 'int8'"):
        render_diagnosis(diagnoses.make_diagnosis(precision="int8"))
