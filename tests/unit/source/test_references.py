"""References: each form is told apart, and what is none of them is refused with advice."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import ModelError, UsageError
from shipway.source.modelfiles import find_model_file
from shipway.source.references import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.py:Net", Reference("python-file", "net.py", "Net")),
        ("a b/net.py:Net.tiny", Reference("python-file", "a b/net.py", "Net.tiny")),
        ("net.py", Reference("python-file", "net.py")),
        ("net.py:", Reference("python-file", "net.py")),
        ("odd:folder/net.py:Net", Reference("python-file", "odd:folder/net.py", "Net")),
        ("package.net:make", Reference("python-module", "package.net", "make")),
        ("package", Reference("python-module", "package")),
        ("nets.pt:make", Reference("python-module", "nets.pt", "make")),
        ("net.pt2", Reference("exported-program", "net.pt2")),
        ("NET.ONNX", Reference("onnx", "NET.ONNX")),
        ("/odd:folder/net.onnx", Reference("onnx", "/odd:folder/net.onnx")),
        ("net.pth", Reference("pickle", "net.pth")),
        ("net.pt", Reference("pickle", "net.pt")),
    ],
)
def test_each_form_is_told_apart(text: str, expected: Reference):
    assert parse_reference(text) == expected


def test_a_model_file_with_a_colon_in_its_name_is_a_file_when_it_exists(project: Path):
    (project / "net:1.onnx").write_bytes(b"x")
    assert parse_reference("net:1.onnx") == Reference("onnx", "net:1.onnx")


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/anna")
    assert parse_reference("~/net.py:Net").path == Path("/home/anna/net.py")


@pytest.mark.parametrize("text", ["~nobody-of-this-name/net.onnx", "\0.onnx", "a" * 5000 + ".onnx"])
def test_a_path_no_disk_can_have_is_still_only_a_path(text: str):
    assert parse_reference(text) == Reference("onnx", text)
    with pytest.raises(ModelError):
        find_model_file(parse_reference(text).path)


@given(st.text(max_size=40), st.sampled_from(["", ".onnx", ".py", ".py:", ":x", ".pt2"]))
def test_no_text_gives_anything_but_a_reference_or_a_usage_error(text: str, end: str):
    with contextlib.suppress(UsageError):
        assert parse_reference(text + end).target


@pytest.mark.parametrize("text", ["", ":", ":Net", "a b", "nets/net:Net", "nets/net.ipynb:Net"])
def test_what_is_no_reference_is_refused(text: str):
    with pytest.raises(UsageError, match="is not a model Shipway can read"):
        parse_reference(text)


@pytest.mark.parametrize("text", ["net.txt", "net.txt:Net"])
def test_a_file_of_another_kind_is_refused(project: Path, text: str):
    (project / "net.txt").write_bytes(b"x")
    with pytest.raises(UsageError, match="is not a model Shipway can read"):
        parse_reference(text)


def test_a_forgotten_ending_is_noticed(project: Path):
    (project / "nets").mkdir()
    (project / "nets/net.py").write_text("")
    with pytest.raises(UsageError) as caught:
        parse_reference("nets/net:Net")
    assert caught.value.hint == "Did you mean nets/net.py:name?"


def test_a_project_file_is_sent_to_deploy():
    with pytest.raises(UsageError) as caught:
        parse_reference("./ship.toml")
    assert "shipway deploy" in caught.value.hint


def test_a_name_that_python_cannot_have_is_refused():
    with pytest.raises(UsageError, match=r"'Net\(\)' in 'net.py:Net\(\)' is not a Python name"):
        parse_reference("net.py:Net()")


def test_a_model_file_takes_no_name(project: Path):
    (project / "net.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"net\.onnx holds one model; it takes no ':main'"):
        parse_reference("net.onnx:main")
