"""What holds for the page's text; tests/browser looks at the page in Chromium."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from shipway.report.data import Report
from shipway.report.html import CHECKS_IN_BAND, render_html

VOID = {"meta", "link", "img", "br", "circle", "line", "rect"}


class Page(HTMLParser):
    """The elements of a page, with the ancestors each has, and its text by element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.errors, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, *tags):
        return [attrs for tag, attrs, _ in self.elements if tag in tags]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


EMPTY = Report("nothing", "", {}, None, (), (), (), {}, ())


@pytest.fixture(
    params=["make_report", "make_passing_report", "make_hostile_report", "nothing"],
)
def text(request, samples):
    """The page of every sample report."""
    report = EMPTY if request.param == "nothing" else getattr(samples, request.param)()
    return render_html(report)


@pytest.fixture
def page(text):
    return Page(text)


def test_every_element_is_closed_in_order(page):
    assert page.errors == []
    assert page.open == []


def test_the_page_has_no_script_and_nothing_to_fetch(page):
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form", "audio"}
    for tag, attrs, _ in page.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert not {"src", "srcset", "action", "style", "background"} & attrs.keys(), tag
    assert [attrs["href"] for attrs in page.all("link")] == ["data:,"]
    assert all(attrs["href"].startswith("#") for attrs in page.all("a"))


def test_the_style_fetches_nothing(text):
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_forbids_everything_but_its_own_style(page):
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "script-src" not in policy


def test_links_lead_to_places_that_exist_and_no_place_exists_twice(page):
    places = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(places) == len(set(places))
    assert {attrs["href"][1:] for attrs in page.all("a")} <= set(places)
    named = [
        attrs["aria-labelledby"] for _, attrs, _ in page.elements if "aria-labelledby" in attrs
    ]
    assert set(named) <= set(places)


def test_every_table_has_a_caption_and_every_header_cell_a_scope(text, page):
    assert text.count("<table") == text.count("<caption")
    assert all(attrs.get("scope") in {"col", "row"} for attrs in page.all("th"))


def test_headings_go_down_by_one_level(page):
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_chart_has_its_values_as_text(page):
    charts = [attrs for _, attrs, _ in page.elements if attrs.get("role") == "img"]
    assert all(len(attrs["aria-label"]) > 20 for attrs in charts)


def test_every_section_is_there_whatever_was_measured(page):
    for heading in ("Checks", "Accuracy", "Output error", "Latency", "Environment", "Reproduce"):
        assert heading in page.text


def test_a_failed_report_leads_with_what_failed(samples):
    page = Page(render_html(samples.make_report()))
    assert page.text.index("FAIL: 3 of 11 checks missed") < page.text.index("Engines at a glance")
    assert samples.COMPILER_ERROR in page.text
    assert next(w for w in page.words if w.strip()) == "FAIL: digits"


def test_a_passed_report_says_so(samples):
    page = Page(render_html(samples.make_passing_report()))
    assert "PASS: ships" in page.text
    assert "FAIL" not in page.text


def test_what_was_not_measured_is_said():
    text = Page(render_html(EMPTY)).text
    assert "Not measured: proof of the export, output error, accuracy, latency." in text
    assert "Not measured: no engine was timed." in text


def test_figures_of_every_stage_are_on_the_page(samples):
    text = Page(render_html(samples.make_report())).text
    for figure in (
        "95.02 to 98.02",
        "\N{MINUS SIGN}0.74",
        "digit-1290",
        "digit-1311.png",
        "truncated file: 12 of 64 bytes",
        "3.10e-07",
        "n too small",
        "4.26",
        "12,121",
        "2.20e-07",
        samples.DIGEST,
        "Intel(R) Xeon(R)",
        "shipway deploy ship.toml --output runs/digits",
        "2026-07-14 09:31:07 UTC",
    ):
        assert figure in text, figure


def test_hostile_text_stays_text(samples):
    text = render_html(samples.make_hostile_report())
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert samples.HOSTILE in Page(text).text


def test_a_long_list_of_missed_checks_is_cut_in_the_band_only(samples, report):
    checks = tuple(replace(report.checks[7], name=f"check number {i}") for i in range(20))
    text = Page(render_html(samples.make_report(checks=checks))).text
    assert f"and {20 - CHECKS_IN_BAND} more, listed under Checks" in text
    assert text.count("check number 19") == 1


def test_missed_checks_come_first_in_the_table(samples):
    text = render_html(samples.make_report())
    table = text[text.index('<h2 id="checks">') :]
    assert table.index("openvino bf16: flips") < table.index("golden: Top-1")


def test_the_page_is_the_same_from_the_report_and_from_its_json(report):
    assert render_html(Report.from_json(report.to_json())) == render_html(report)


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2026-07-14T11:31:07+02:00", "2026-07-14 09:31:07 UTC"),
        ("2026-07-14T09:31:07Z", "2026-07-14 09:31:07 UTC"),
        ("2026-07-14T09:31:07", "2026-07-14 09:31:07 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_the_time_is_shown_in_utc(samples, created, shown):
    assert f">{shown}</time>" in render_html(samples.make_report(created=created))
