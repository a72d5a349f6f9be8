"""The report as Chromium shows it: nothing fetched, nothing executed, readable everywhere."""

import base64
from pathlib import Path

import pytest

from shipway.report.data import Report
from shipway.report.write import write_report

PAGES = ("make_report", "make_passing_report", "make_hostile_report", "nothing")


@pytest.fixture(scope="session")
def pages(samples, tmp_path_factory):
    """Path of the page of each sample report."""
    empty = Report("nothing", "", {}, None, (), (), (), {}, ())
    reports = {name: empty if name == "nothing" else getattr(samples, name)() for name in PAGES}
    folder = tmp_path_factory.mktemp("reports")
    return {name: write_report(report, folder / name)[1] for name, report in reports.items()}


@pytest.mark.parametrize("name", PAGES)
def test_the_only_request_is_the_page_itself_and_the_console_stays_silent(browser, pages, name):
    browser.open(pages[name])
    assert browser.requests() == [pages[name].as_uri()]
    assert browser.console() == []


def test_the_pages_own_policy_stops_what_would_slip_through(browser, pages, tmp_path):
    """Were an escape forgotten, the policy in the page would still let nothing run or load."""
    breach = "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png'>"
    page = Path(tmp_path / "breached.html")
    page.write_text(pages["make_report"].read_text().replace("</main>", f"{breach}</main>"))
    browser.open(page)
    assert browser.driver.title == "FAIL: digits"
    assert len([line for line in browser.console() if "Content Security Policy" in line]) == 2


def test_the_verdict_is_seen_first(browser, pages):
    browser.open(pages["make_report"])
    verdict = browser.run("return document.getElementById('verdict').getBoundingClientRect()")
    assert verdict["bottom"] < 400
    text = browser.run("return document.getElementById('verdict').innerText")
    assert text.startswith("FAIL: 3 of 11 checks missed, 1 engine failed")
    browser.open(pages["make_passing_report"])
    assert browser.run("return document.getElementById('verdict-title').innerText") == "PASS: ships"


def test_every_table_is_there_with_its_rows(browser, pages):
    browser.open(pages["make_report"])
    tables = browser.run(
        "return [...document.querySelectorAll('table')].map("
        "t => [t.caption.innerText.split(/[;,]/)[0], t.querySelectorAll('tbody tr').length])"
    )
    assert dict(tables) == {
        "Engines at a glance": 5,
        "What decides": 11,
        "Samples whose label is among the N highest scores: count": 4,
        "Difference to golden": 3,
        "Flipped samples": 6,
        "Bad samples": 1,
        "Outputs against golden (torch f32)": 3,
        "Wall time in ms a batch unless a header says a sample": 8,
        "Golden and exported model": 3,
        "What was compiled": 5,
    }


def test_every_row_has_as_many_cells_as_its_table_has_columns(browser, pages):
    for name in PAGES:
        browser.open(pages[name])
        uneven = browser.run(
            "const span = row => [...row.cells].reduce((sum, c) => sum + c.colSpan, 0);"
            "return [...document.querySelectorAll('table')].flatMap(t => [...t.rows]"
            ".filter(r => span(r) !== span(t.rows[0])).map(r => r.innerText))"
        )
        assert uneven == []


def test_the_marks_of_a_chart_lie_where_their_values_are(browser, pages):
    """The dots of Top-1 stand in the order of the rates, inside their plot."""
    browser.open(pages["make_report"])
    centres, left, right = browser.run(
        "const plot = document.querySelector('.plot');"
        "const middle = r => (r.left + r.right) / 2;"
        "const lane = plot.querySelector('svg').getBoundingClientRect();"
        "return [[...plot.querySelectorAll('.dot')].map(d => middle(d.getBoundingClientRect())),"
        " lane.left, lane.right]"
    )
    golden, onnxruntime, openvino, bf16 = centres
    assert left < bf16 < openvino < golden == onnxruntime < right
    assert (golden - openvino) / (golden - bf16) == pytest.approx(1 / 4, abs=0.01)


def test_hostile_text_is_shown_and_not_obeyed(browser, pages, samples):
    browser.open(pages["make_hostile_report"])
    assert browser.driver.title.startswith("FAIL: </title><script>")
    assert browser.run("return document.querySelectorAll('script, img, iframe').length") == 0
    assert samples.HOSTILE in browser.run("return document.querySelector('h1').textContent")


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
@pytest.mark.parametrize("name", PAGES)
def test_no_width_makes_the_page_scroll_sideways(browser, pages, name, width):
    browser.open(pages[name], width=width)
    shown, needed = browser.run(
        "const root = document.documentElement; return [root.clientWidth, root.scrollWidth]"
    )
    assert (shown, needed) == (width, width)


def test_a_wide_table_scrolls_inside_its_own_frame_and_by_keyboard(browser, pages):
    browser.open(pages["make_report"], width=360)
    frames = browser.run(
        "return [...document.querySelectorAll('.scroll')].filter(f => f.scrollWidth > f.clientWidth)"
        ".map(f => [f.tabIndex, f.getAttribute('role'), f.getAttribute('aria-label')])"
    )
    assert [0, "region", "Latency"] in frames
    assert all(index == 0 and role == "region" and label for index, role, label in frames)


@pytest.mark.parametrize("name", ["make_report", "make_passing_report"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser, pages, contrasts, scheme, name):
    """At least 4.5 to 1, as WCAG 2.2 AA asks of small text."""
    browser.open(pages[name], scheme=scheme)
    seen, poor = browser.run(contrasts)
    assert seen > 300
    assert poor == []


GROUND = "return getComputedStyle(document.body).backgroundColor"


def test_the_page_follows_the_colour_scheme(browser, pages):
    browser.open(pages["make_report"], scheme="light")
    assert browser.run(GROUND) == "rgb(255, 255, 255)"
    browser.set_scheme("dark")
    dark = browser.run(GROUND)
    assert all(int(part) < 40 for part in dark.removeprefix("rgb(").removesuffix(")").split(","))


def test_paper_is_white_whatever_the_scheme_and_no_table_is_cut(browser, pages):
    browser.open(pages["make_report"], width=703, scheme="dark")  # A4 less its margins, at 96 dpi
    browser.set_scheme("dark", media="print")
    assert browser.run(GROUND) == "rgb(255, 255, 255)"
    assert browser.run("return document.documentElement.scrollWidth") == 703
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.set_scheme("light")


def test_it_prints(browser, pages):
    browser.open(pages["make_report"])
    pdf = base64.b64decode(browser.command("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") <= 6


def test_everything_is_there_without_javascript(browser, pages):
    """Chromium with scripts switched off lays out the same page."""
    browser.open(pages["make_report"])
    height = browser.command("Page.getLayoutMetrics")["cssContentSize"]["height"]
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.driver.get(pages["make_report"].as_uri())
        assert browser.command("Page.getLayoutMetrics")["cssContentSize"]["height"] == height
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_the_page_has_an_outline_for_screen_readers(browser, pages):
    """Chromium's own accessibility tree has the headings, the tables and the charts' words."""
    browser.open(pages["make_report"])
    browser.command("Accessibility.enable")
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    named = {}
    for node in nodes:
        if not node.get("ignored"):
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value"))
    assert named["heading"][:3] == [
        "digits",
        "FAIL: 3 of 11 checks missed, 1 engine failed",
        "Notes",
    ]
    assert len(named["table"]) == 10
    assert all(named["table"])
    charts = [name for role in ("image", "img") for name in named.get(role, [])]
    assert any("openvino bf16: 96.11 (94.17 to 97.44)" in name for name in charts)
    assert {"banner", "main", "navigation", "contentinfo"} <= named.keys()
