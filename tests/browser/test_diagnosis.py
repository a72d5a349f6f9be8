"""The page of a diagnosis as Chromium shows it: nothing fetched, sorted and searched, readable."""

import base64
from dataclasses import replace

import pytest

from shipway.report.diagnosis_files import write_diagnosis
from shipway.report.write import write_report

NAMES = ("fault", "clean", "inputs", "hostile", "report")
HOSTILE = "</title><script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png'>"


@pytest.fixture(scope="session")
def diagnosis_pages(diagnoses, samples, tmp_path_factory):
    """Path of the page of each sample diagnosis, and of a report that holds one."""
    fault = diagnoses.make_diagnosis()
    evil = replace(fault.tensors[9], golden=HOSTILE, module=HOSTILE, code=HOSTILE)
    shown = {
        "fault": fault,
        "clean": diagnoses.make_diagnosis(fault=None),
        "inputs": diagnoses.make_diagnosis(
            tensors=(), culprits=(), input_problems=("x: other numbers", "y: absent")
        ),
        "hostile": replace(
            fault,
            actual=HOSTILE,
            tensors=(*fault.tensors[:9], evil, *fault.tensors[10:]),
            culprits=(replace(fault.culprits[0], tensor=evil),),
        ),
    }
    folder = tmp_path_factory.mktemp("diagnoses")
    pages = {name: write_diagnosis(one, folder / name)[2] for name, one in shown.items()}
    section = samples.make_section("onnxruntime", diagnosis=fault.to_json())
    _, pages["report"] = write_report(samples.make_report(engines=(section,)), folder / "report")
    return pages


def rows(browser):
    """Order of each row of the table that is shown, from the top."""
    return browser.run(
        "return [...document.querySelectorAll('#tensor-table tbody tr')]"
        ".filter(row => row.offsetHeight).map(row => row.cells[0].innerText)"
    )


def click_head(browser, title):
    browser.run(
        "[...document.querySelectorAll('#tensor-table th button')]"
        ".find(button => button.innerText === arguments[0]).click()",
        title,
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_only_request_is_the_page_and_the_console_stays_silent(browser, diagnosis_pages, name):
    browser.open(diagnosis_pages[name])
    assert browser.requests() == [diagnosis_pages[name].as_uri()]
    assert browser.console() == []


def test_the_verdict_and_the_fault_are_seen_first(browser, diagnosis_pages):
    browser.open(diagnosis_pages["fault"])
    band = browser.run("return document.getElementById('verdict').getBoundingClientRect()")
    card = browser.run("return document.querySelector('.card').getBoundingClientRect()")
    assert band["bottom"] < 300
    assert band["bottom"] < card["top"] < 450
    assert browser.run("return document.querySelector('.card h3').innerText").startswith(
        "1. approximation in layers.3.norm2"
    )


def test_hostile_names_are_shown_and_not_obeyed(browser, diagnosis_pages):
    browser.open(diagnosis_pages["hostile"])
    assert browser.driver.title.startswith("FAULT: </title><script>")
    assert browser.run("return document.querySelectorAll('script, img, iframe').length") == 1


def test_the_policy_stops_any_script_but_the_pages_own(browser, diagnosis_pages, tmp_path):
    page = tmp_path / "breached.html"
    breach = f"{HOSTILE.removeprefix('</title>')}</main>"
    page.write_text(diagnosis_pages["fault"].read_text().replace("</main>", breach))
    browser.open(page)
    assert browser.driver.title == "FAULT: onnxruntime:f32"
    assert len([line for line in browser.console() if "Content Security Policy" in line]) == 2
    click_head(browser, "limit")
    assert rows(browser)[0] == "9"


def test_the_table_sorts_by_numbers_and_by_words(browser, diagnosis_pages):
    browser.open(diagnosis_pages["fault"])
    assert rows(browser) == [str(index) for index in range(24)]
    click_head(browser, "limit")
    assert rows(browser)[0] == "9"
    click_head(browser, "limit")
    assert rows(browser)[-1] == "9"
    click_head(browser, "order")
    assert rows(browser) == [str(index) for index in range(24)]
    click_head(browser, "tensor")
    assert rows(browser)[:3] == ["0", "1", "10"]
    sorted_by = browser.run(
        "return [...document.querySelectorAll('th[aria-sort]')].map(h => [h.innerText, h.ariaSort])"
    )
    assert [(text.split()[0], way) for text, way in sorted_by] == [("tensor", "ascending")]


def test_the_table_is_searched_by_all_words_and_by_what_is_broken(browser, diagnosis_pages):
    browser.open(diagnosis_pages["fault"])
    search = browser.driver.find_element("id", "tensor-search")
    search.send_keys("LINEAR_1 matmul")
    assert rows(browser) == ["1", *(str(index) for index in range(10, 20))]
    assert browser.run("return document.getElementById('tensor-count').innerText") == (
        "11 of 24 shown"
    )
    search.clear()
    search.send_keys(" ")
    browser.driver.find_element("id", "tensor-broken").click()
    assert rows(browser) == ["9"]


def test_the_marks_lie_on_the_right_side_of_the_limit(browser, diagnosis_pages):
    browser.open(diagnosis_pages["fault"])
    heights, limit = browser.run(
        "const plot = document.querySelector('.plane');"
        "const middle = e => { const r = e.getBoundingClientRect(); return (r.top + r.bottom) / 2; };"
        "return [[...plot.querySelectorAll('.dot')].map(middle),"
        " middle([...plot.querySelectorAll('line.limit')].find(l => !l.matches('.dashed')))]"
    )
    assert [height < limit for height in heights] == [False] * 9 + [True] + [False] * 14


def test_without_javascript_every_row_is_there(browser, diagnosis_pages):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.driver.get(diagnosis_pages["fault"].as_uri())
        root = browser.command("DOM.getDocument", depth=-1)["root"]["nodeId"]
        found = browser.command("DOM.querySelectorAll", nodeId=root, selector=".tensors tbody tr")
        assert len(found["nodeIds"]) == 24
        tools = browser.command(
            "DOM.querySelectorAll", nodeId=root, selector=".tools:not([hidden])"
        )
        assert tools["nodeIds"] == []
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
@pytest.mark.parametrize("name", NAMES)
def test_no_width_makes_the_page_scroll_sideways(browser, diagnosis_pages, name, width):
    browser.open(diagnosis_pages[name], width=width)
    shown, needed = browser.run(
        "const root = document.documentElement; return [root.clientWidth, root.scrollWidth]"
    )
    assert (shown, needed) == (width, width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser, diagnosis_pages, contrasts, scheme):
    """At least 4.5 to 1, as WCAG 2.2 AA asks of small text."""
    browser.open(diagnosis_pages["fault"], scheme=scheme)
    seen, poor = browser.run(contrasts)
    assert seen > 300
    assert poor == []


def test_paper_is_white_and_cuts_no_table(browser, diagnosis_pages):
    browser.open(
        diagnosis_pages["fault"], width=703, scheme="dark"
    )  # A4 less its margins, at 96 dpi
    browser.set_scheme("dark", media="print")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    wide = browser.run(
        "return [...document.querySelectorAll('table')].map(t => t.offsetWidth).filter(w => w > 703)"
    )
    assert wide == []
    browser.set_scheme("light")


def test_it_prints(browser, diagnosis_pages):
    browser.open(diagnosis_pages["fault"])
    pdf = base64.b64decode(browser.command("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert 1 <= pdf.count(b"/Type /Page\n") <= 5


def test_the_plots_have_words_for_screen_readers(browser, diagnosis_pages):
    browser.open(diagnosis_pages["fault"])
    browser.command("Accessibility.enable")
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    images = [
        node["name"]["value"]
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in {"image", "img"}
    ]
    assert any("The worst: 9 norm2: local 3.00e-03" in name for name in images)
    assert any("Tensors by local error." in name for name in images)
