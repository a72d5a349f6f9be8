import json
import os
import subprocess
import sys

import pytest

from shipway.errors import ModelError, OutputError
from shipway.report.html import render_html
from shipway.report.write import read_report, write_report


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_both_files_are_written_and_the_json_reads_back(report, tmp_path):
    json_path, html_path = write_report(report, tmp_path / "new" / "run")
    assert (json_path.name, html_path.name) == ("report.json", "report.html")
    assert read_report(json_path).to_json() == report.to_json()
    assert html_path.read_text(encoding="utf-8") == render_html(report)
    assert names(json_path.parent) == ["report.html", "report.json"]


def test_an_unchanged_report_gives_unchanged_bytes(report, samples, tmp_path):
    first = [path.read_bytes() for path in write_report(report, tmp_path)]
    assert [path.read_bytes() for path in write_report(samples.make_report(), tmp_path)] == first


def test_a_file_name_that_is_not_utf8_can_be_reported(samples, tmp_path):
    report = samples.make_report(notes=(os.fsdecode(b"bad sample \xff.jpg"),))
    json_path, html_path = write_report(report, tmp_path)
    assert read_report(json_path).notes == ("bad sample \\udcff.jpg",)
    assert r"bad sample \udcff.jpg" in html_path.read_text(encoding="utf-8")


def test_a_file_in_place_of_the_folder_is_an_output_error(report, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="run"):
        write_report(report, tmp_path / "run")


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 40 KiB: room for the JSON, not for the page."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_an_output_error_and_leaves_no_half_file(report, tiny_disk):
    with pytest.raises(OutputError, match=r"report\.html: No space left"):
        write_report(report, tiny_disk)
    assert names(tiny_disk) == ["report.json"]
    assert read_report(tiny_disk / "report.json").title == "digits"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "not an object"),
        (b"{}", "no 'schema_version'"),
        (b'{"schema_version": "1"}', "'schema_version'"),
        (b"[" * 100_000, "nested too deep"),
    ],
    ids=["empty", "cut", "not-text", "list", "nothing", "version-as-text", "deep"],
)
def test_garbage_is_refused_with_the_path_and_the_reason(tmp_path, content, why):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=why) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.json"):
        read_report(tmp_path / "nowhere.json")


def test_a_newer_report_says_how_to_read_it(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report.to_json() | {"schema_version": 7}))
    with pytest.raises(ModelError, match="has schema 7") as caught:
        read_report(path)
    assert caught.value.hint == "pip install --upgrade shipway"


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain["engines"][1]["evaluation"].pop("top"),
        lambda plain: plain["engines"][1]["evaluation"].update(top=3),
        lambda plain: plain["engines"][1]["comparison"].update(outputs={"x": 1}),
        lambda plain: plain["engines"][1]["comparison"]["outputs"][0]["metrics"].update(cosine="x"),
        lambda plain: plain["engines"][0]["bench"][0].update(latency=None),
        lambda plain: plain["engines"][0]["bench"][0]["latency"].update(p50_ms="fast"),
        lambda plain: plain["proof"].update(trials=[None]),
        lambda plain: plain["model"].update(inputs=["x"]),
        lambda plain: plain["model"].update(parameters="many"),
    ],
)
def test_damage_deep_inside_is_found_on_reading(report, tmp_path, damage):
    plain = report.to_json()
    damage(plain)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(ModelError, match="not a report that can be shown"):
        read_report(path)


def test_reading_and_writing_import_no_framework():
    code = (
        "import sys, shipway.report.write, shipway.report.terminal;"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'scipy', 'PIL', 'rich', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
