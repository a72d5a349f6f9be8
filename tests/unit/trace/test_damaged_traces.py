"""A trace that is damaged, or none, is an error that says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_samples import record

from shipway.errors import ModelError, ShipwayError, TensorError
from shipway.trace.reading import JOURNAL, MANIFEST
from shipway.trace.store import open_trace


def test_no_folder_and_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TensorError, match=r"absent is no trace: there is no such folder"):
        open_trace(tmp_path / "absent")
    with pytest.raises(TensorError, match=r"there is no trace\.json in it") as caught:
        open_trace(tmp_path)
    assert "shipway trace" in caught.value.hint


def test_a_newer_trace_names_the_way_out(tmp_path: Path) -> None:
    record(tmp_path, 1)
    data = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**data, "schema_version": 99}))
    with pytest.raises(ModelError, match="schema 99") as caught:
        open_trace(tmp_path)
    assert "upgrade" in caught.value.hint


def test_a_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    record(tmp_path, 1)
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace("00000-t0.npy", "../../secret.npy"))
    with pytest.raises(ModelError, match="not a trace of Shipway"):
        open_trace(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_trace_json_is_an_error_with_a_hint(tmp_path: Path, share: float) -> None:
    record(tmp_path, 2)
    data = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"trace\.json") as caught:
        open_trace(tmp_path)
    assert "numpy.load" in caught.value.hint


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damaged_trace_json_is_more_than_an_error(tmp_path_factory, data) -> None:
    """Any value in it may be another one: the trace opens, or is refused as Shipway refuses."""
    folder = tmp_path_factory.mktemp("trace")
    record(folder, 1)
    tree = json.loads((folder / MANIFEST).read_text())
    place, keys = tree, list(tree)
    while True:
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place, keys = inner, list(inner) if isinstance(inner, dict) else list(range(len(inner)))
    junk = (
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({})
    )
    place[key] = data.draw(junk)
    (folder / MANIFEST).write_text(json.dumps(tree))
    try:
        trace = open_trace(folder)
        for one in trace.records:
            trace.read(one.name)
    except ShipwayError:
        return


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"not a tensor", b"\x93NUMPY\x01\x00\x10\x00{'descr': [}      \n"],
)
def test_a_damaged_npy_is_an_error(tmp_path: Path, content: bytes) -> None:
    record(tmp_path, 1)
    (tmp_path / "00000-t0.npy").write_bytes(content)
    with pytest.raises(TensorError, match=r"'t0' cannot be read from .*00000-t0\.npy"):
        open_trace(tmp_path).read("t0")


@pytest.mark.parametrize("other", [np.zeros((5, 1), np.float32), np.zeros((1, 5), np.int32)])
def test_an_npy_with_another_tensor_is_an_error(tmp_path: Path, other: np.ndarray) -> None:
    record(tmp_path, 1)
    np.save(tmp_path / "00000-t0.npy", other)
    with pytest.raises(TensorError, match=r"it holds .* instead of float32\[1, 1, 5\]"):
        open_trace(tmp_path).read("t0")


def test_a_journal_cut_at_any_byte_gives_the_whole_lines(tmp_path: Path) -> None:
    record(tmp_path, 3, finish=False)
    journal = tmp_path / JOURNAL
    data = journal.read_bytes()
    for size in [*range(0, len(data), 97), len(data)]:
        journal.write_bytes(data[:size])
        found = open_trace(tmp_path)
        assert len(found.records) == data[:size].count(b"\n")
        assert all(found.read(one.name).size == 5 for one in found.records)


def test_garbage_in_the_journal_is_said_and_left_out(tmp_path: Path, caplog) -> None:
    record(tmp_path, 2, finish=False)
    journal = tmp_path / JOURNAL
    first, second, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([first, b"\0" * 40, second, b""]))
    with caplog.at_level("WARNING", "shipway.trace"):
        assert [one.name for one in open_trace(tmp_path).records] == ["t0", "t1"]
    assert "1 damaged line" in caplog.text
