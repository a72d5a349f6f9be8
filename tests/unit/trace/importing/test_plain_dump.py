"""Folders of tensor files that no tool in particular wrote."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from shipway.errors import TensorError, UsageError
from shipway.trace.importing.registry import detect_format, import_dump


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tensors"
    path.mkdir()
    np.save(path / "layer10.npy", np.ones((2, 2), np.float16))
    np.save(path / "layer2.npy", np.full((2, 2), 2, np.float16))
    np.savez(path / "more.npz", **{"a/b": np.arange(3)})
    np.arange(4, dtype=np.float32).tofile(path / "raw.bin")
    return path


def test_files_come_in_the_order_of_their_names(folder):
    assert detect_format(folder) == "plain"
    trace = import_dump(folder, None)
    assert [record.name for record in trace.records] == ["layer2", "layer10", "a/b"]
    assert trace.read("layer2")[0, 0] == 2
    assert trace.header.precision == "f16"
    assert trace.record("a/b").tap.names == ("a/b",)
    assert "raw.bin" in trace.header.untapped


def test_a_map_says_what_is_in_raw_files(folder, tmp_path):
    (tmp_path / "specs.json").write_text(json.dumps({"raw": "float32[2,2]"}))
    trace = import_dump(folder, None, mapping=tmp_path / "specs.json")
    assert np.array_equal(trace.read("raw"), [[0, 1], [2, 3]])
    assert not trace.header.untapped


@pytest.mark.parametrize(
    "text", ["[]", '{"raw": 3}', '{"raw": "float99[2]"}', '{"raw": "x y"}', "{"]
)
def test_a_map_that_says_something_else(folder, tmp_path, text):
    (tmp_path / "specs.json").write_text(text)
    with pytest.raises(UsageError):
        import_dump(folder, None, mapping=tmp_path / "specs.json")


def test_damaged_files_do_not_stop_the_rest(folder):
    (folder / "layer2.npy").write_bytes((folder / "layer2.npy").read_bytes()[:-1])
    (folder / "notes.txt").write_text("x")
    np.save(folder / "wave.npy", np.ones(2, np.complex64))
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    trace = import_dump(folder, None)
    assert [record.name for record in trace.records] == ["layer10", "a/b"]
    assert {"layer2.npy", "notes.txt", "wave", "objects.npy", "raw.bin"} == set(
        trace.header.untapped
    )


def test_one_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 3), ml_dtypes.bfloat16))
    trace = import_dump(tmp_path / "x.npy", None)
    assert trace.read("x").dtype == ml_dtypes.bfloat16
    assert trace.read("x").shape == (0, 3)


def test_nothing_that_can_be_read(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(TensorError, match=r"No tensor of .*x\.npy"):
        import_dump(tmp_path, None)
