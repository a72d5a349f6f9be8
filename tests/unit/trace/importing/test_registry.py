"""Which format a path has, what a wrong one says, and what is kept of a dump."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest

from shipway.errors import TensorError, UsageError
from shipway.trace.importing.dump import finite_facts, guess_precision
from shipway.trace.importing.registry import FORMATS, detect_format, import_dump
from shipway.trace.store import open_trace


def test_paths_that_are_no_dump(tmp_path):
    with pytest.raises(TensorError, match="There is no"):
        import_dump(tmp_path / "nowhere", None)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "dump.json").write_text('{"something": "else"}')
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    assert detect_format(tmp_path) is None
    for path in (
        tmp_path,
        tmp_path / "readme.txt",
        tmp_path / "dump.json",
        tmp_path / "model.onnx",
    ):
        with pytest.raises(TensorError, match="no dump that Shipway knows") as caught:
            import_dump(path, None)
        assert all(name in caught.value.hint for name in FORMATS)


def test_an_unknown_format(tmp_path):
    with pytest.raises(UsageError, match="Unknown format 'tvm'") as caught:
        import_dump(tmp_path, None, format_name="tvm")
    assert "ascend" in caught.value.hint


@pytest.mark.parametrize("format_name", ["msprobe", "trtexec", "aotinductor", "polygraphy"])
def test_a_wrong_format(ascend, dumped, format_name):
    ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    with pytest.raises(TensorError, match=f"no dump of the format {format_name}") as caught:
        import_dump(ascend.folder, None, format_name=format_name)
    assert "--format ascend" in caught.value.hint
    assert len(import_dump(ascend.folder, None, format_name="ascend").records) == 1


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_empty_folder_and_an_empty_file(tmp_path, format_name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.json").write_bytes(b"")
    for path in (tmp_path / "empty", tmp_path / "empty.json"):
        with pytest.raises(TensorError, match="no dump of the format"):
            import_dump(path, None, format_name=format_name)


def test_a_temporary_trace_goes_with_what_was_returned(ascend, dumped):
    ascend.add("Relu", "relu", dumped(np.arange(3, dtype=np.float32)))
    trace = import_dump(ascend.folder, None)
    folder, value = trace.folder, trace.read("relu:output:0")
    assert folder.is_dir()
    del trace
    gc.collect()
    assert not folder.exists()
    assert value[2] == 2  # what was mapped stays readable


def test_a_dump_that_fails_leaves_no_folder_behind(ascend, dumped, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = ascend.add("Relu", "relu", dumped(np.ones(3, np.float32)))
    path.write_bytes(path.read_bytes()[:-1])
    for output in (None, tmp_path / "trace"):
        with pytest.raises(TensorError):
            import_dump(ascend.folder, output)
    assert not list(tmp_path.glob("shipway-import-*"))
    assert not (tmp_path / "trace" / "trace.json").exists()


def test_a_trace_with_facts_is_read_again(ascend, tmp_path):
    header = "Input/Output,Index,Data Size,Data Type,Format,Shape,Max Value,Min Value\n"
    ascend.write("Relu.relu.3.7.1700000000000001.csv", header + "Output,0,8,DT_FLOAT,ND,2,4,-1\n")
    import_dump(ascend.folder, tmp_path / "trace")
    trace = open_trace(tmp_path / "trace")
    assert trace.record("relu:output:0").facts == {"max": 4, "min": -1}
    assert trace.header.complete
    assert not trace.has_values
    text = json.loads((tmp_path / "trace" / "trace.json").read_text())
    text["tensors"][0]["facts"] = {"max": "large"}
    (tmp_path / "trace" / "trace.json").write_text(json.dumps(text))
    with pytest.raises(Exception, match="not numbers"):
        open_trace(tmp_path / "trace")


def test_numbers_that_are_none():
    assert finite_facts(min="nan", max=float("inf"), mean=None, l2="12.5", count=10**400) == {
        "l2": 12.5
    }


def test_the_guess_of_the_precision():
    assert guess_precision([]) == guess_precision(["int64", ""]) == "f32"
    assert guess_precision(["bfloat16", "float32", "bfloat16"]) == "bf16"
