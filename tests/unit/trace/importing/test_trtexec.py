"""trtexec's files, written as its source code writes them."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from shipway.errors import TensorError, UsageError
from shipway.trace.importing.registry import detect_format, import_dump

_TYPES = {
    "float32": ("FLOAT", "<f4"), "float16": ("HALF", "<f2"), "int32": ("INT32", "<i4"),
    "int64": ("INT64", "<i8"), "int8": ("INT8", "<i1"), "uint8": ("UINT8", "|u1"), "bool": ("BOOL", "|b1"),
}  # fmt: skip


def _safe(name: str) -> str:
    """genFilenameSafeString of common.h."""
    safe = "".join(c if c.isalnum() or c in "._-," else "_" for c in name)
    return safe if len(safe) <= 150 else f"{safe[:73]}...{safe[-73:]}"


def _npy(value: np.ndarray, descr: str) -> bytes:
    """writeNumpyFile of debugTensorWriter.cpp: a comma behind every size."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({''.join(f'{n}, ' for n in value.shape)}), }}"
    header += " " * (16 - (11 + len(header)) % 16) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + value.tobytes()


class Writer:
    """DebugTensorWriter: counts through the tensors of all runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.entries = folder, 0, []

    def save(self, name: str, value: np.ndarray, *kinds: str) -> None:
        prefix = f"{self.count:04d}_"
        self.count += 1
        files = {}
        if "raw" in kinds:
            files["raw"] = _safe(f"{prefix}{name}.raw")
            (self.folder / files["raw"]).write_bytes(value.tobytes())
        if "numpy" in kinds:
            wide = value.dtype == ml_dtypes.bfloat16
            stored = value.astype(np.float32) if wide else value
            files["numpy"] = _safe(f"{prefix}{name}{'_to_float' if wide else ''}.npy")
            data = _npy(stored, _TYPES[stored.dtype.name][1])
            (self.folder / files["numpy"]).write_bytes(data)
        if "string" in kinds:
            files["string"] = _safe(f"{prefix}{name}.str")
            (self.folder / files["string"]).write_text("[ 1.000000e+00]\n")
        finite = value.astype(np.float64)
        text = [f'"{x:g}"' if not math.isfinite(x) else f"{x:g}" for x in
                (finite.min(), finite.max(), finite.mean())]  # fmt: skip
        kind = "BF16" if value.dtype == ml_dtypes.bfloat16 else _TYPES[value.dtype.name][0]
        entry = (
            f'  {{\n    "name": "{name}",\n    "shape": [{", ".join(map(str, value.shape))}],\n'
            f'    "type": "{kind}",\n    "statistics": {{\n        "min": {text[0]},\n        "max": {text[1]},\n'
            f'        "avg": {text[2]},\n        "elements": "1, 2, ..."\n    }}'
        )
        if files:
            lines = ",\n".join(f'      "{kind}": "{file}"' for kind, file in files.items())
            entry += f',\n    "files": {{\n{lines}\n    }}'
        self.entries.append(entry + "\n  }")

    def summary(self) -> str:
        head = '{\n  "metadata": {\n    "title": "Tensor Summary Report",\n    "engine_name": "net"\n  },\n  "tensors": [\n'
        return head + ",\n".join(self.entries) + "\n  ]\n}\n"

    def finish(self) -> None:
        (self.folder / "tensor_summary.json").write_text(self.summary())


@pytest.fixture
def writer(tmp_path) -> Writer:
    (tmp_path / "run").mkdir()
    return Writer(tmp_path / "run")


@pytest.mark.parametrize("kind", ["numpy", "raw"])
@pytest.mark.parametrize("dtype", [*_TYPES, "bfloat16"])
def test_every_type_comes_back_bit_for_bit(writer, random_values, kind, dtype):
    value = random_values((2, 3, 5), dtype)
    writer.save("/layer1/conv out", value, kind, "summary")
    writer.finish()
    trace = import_dump(writer.folder, None)
    found = trace.read("/layer1/conv out")
    assert found.dtype == value.dtype
    assert found.tobytes() == value.tobytes()
    assert trace.record("/layer1/conv out").tap.names == ("/layer1/conv out",)


def test_numpy_files_without_a_summary(writer):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    writer.save("/relu/Relu_output_0", value, "numpy")
    writer.save("half", value.astype(ml_dtypes.bfloat16), "numpy")
    writer.save("scalar", np.float32(2).reshape(()), "numpy")
    writer.save("bytes", value, "raw")
    writer.save("text", value, "string")
    assert detect_format(writer.folder) == "trtexec"
    trace = import_dump(writer.folder, None)
    assert [one.name for one in trace.records] == ["_relu_Relu_output_0", "half", "scalar"]
    assert np.array_equal(trace.read("_relu_Relu_output_0"), value)
    assert np.array_equal(trace.read("half"), value)
    assert trace.read("scalar").shape == ()
    assert "dtype and shape are not known" in trace.header.untapped["0003_bytes.raw"]
    assert "7 digits" in trace.header.untapped["0004_text.str"]


def test_of_several_runs_the_first_is_kept(writer):
    for run in range(3):
        for name in ("a", "b"):
            writer.save(name, np.full(4, run, np.float32), "numpy")
    writer.finish()
    trace = import_dump(writer.folder, None)
    assert [one.name for one in trace.records] == ["a", "b"]
    assert trace.read("a")[0] == 0
    assert trace.header.left_out == 4
    assert "--iterations=1" in trace.header.effective["repeats"]


def test_statistics_alone(writer):
    writer.save("x", np.array([1, -2, np.inf], np.float32))
    writer.save("n", np.array([1, 2, 3], np.int64))
    writer.finish()
    trace = import_dump(writer.folder, None)
    assert trace.record("x").facts == {"min": -2}
    assert trace.record("n").facts == {"min": 1, "max": 3, "mean": 2}
    assert trace.record("n").dtype == "int64"


def test_a_summary_that_was_cut_off(writer):
    """A run that is killed leaves no end: it is written when trtexec ends."""
    for name in ("a", "b", "c"):
        writer.save(name, np.ones(4, np.float32), "numpy")
    (writer.folder / "tensor_summary.json").write_text(writer.summary()[:-60])
    trace = import_dump(writer.folder, None)
    assert [one.name for one in trace.records] == ["a", "b"]
    assert "after 2 tensors" in trace.header.untapped["tensor_summary.json"]


def test_what_is_damaged_does_not_stop_the_rest(writer):
    value = np.ones((2, 2), np.float32)
    writer.save("good", value, "numpy")
    writer.save("cut", value, "numpy")
    writer.save("gone", value, "raw")
    writer.save("short", value, "raw")
    writer.finish()
    cut = writer.folder / "0001_cut.npy"
    cut.write_bytes(cut.read_bytes()[:-3])
    (writer.folder / "0002_gone.raw").unlink()
    (writer.folder / "0003_short.raw").write_bytes(b"123")
    summary = writer.folder / "tensor_summary.json"
    summary.write_text(summary.read_text().replace('"tensors": [', '"tensors": [{"type": "FLOAT"}, {"name": "p", "shape": [2], "type": "INT4"}, '))  # fmt: skip
    trace = import_dump(writer.folder, None)
    assert [one.name for one in trace.records] == ["good"]
    assert set(trace.header.untapped) == {
        "cut",
        "gone",
        "short",
        "p",
        "tensor_summary.json, tensor 1",
    }
    assert "INT4" in trace.header.untapped["p"]


@pytest.mark.parametrize("key", ["name", "shape", "type", "statistics", "files"])
@pytest.mark.parametrize(
    "value", [None, 3, "x", [], {}, [-1], [1e400], ["a"], {"numpy": 3}, {"numpy": "../x"}]
)
def test_entries_that_are_damaged(writer, key, value):
    for name in ("a", "b"):
        writer.save(name, np.ones(2, np.float32), "numpy")
    writer.finish()
    path = writer.folder / "tensor_summary.json"
    data = json.loads(path.read_text())
    data["tensors"][0][key] = value
    path.write_text(json.dumps(data))
    assert "b" in import_dump(writer.folder, None)


def test_saved_under_names_of_their_own(writer):
    """--saveDebugTensors=name:file with --saveAllDebugTensors=summary."""
    value = np.arange(4, dtype=np.float16)
    writer.save("x", value)
    writer.entries[0] = writer.entries[0][:-4] + ',\n    "files": {"assigned": "mine.bin"}\n  }'
    (writer.folder / "mine.bin").write_bytes(value.tobytes())
    writer.finish()
    assert np.array_equal(import_dump(writer.folder, None).read("x"), value)


@pytest.mark.parametrize("dimensions", ["(1, 3)", "1x3"])
def test_exported_outputs(tmp_path, dimensions):
    path = tmp_path / "out.json"
    path.write_text(
        f'[\n  {{ "name" : "logits"\n  , "dimensions" : "{dimensions}"\n  , "values" : [ 1, -inf, nan ]\n  }}\n'
        ', { "name" : "scalar"\n  , "dimensions" : "()"\n  , "values" : [ 2.5 ]\n  }\n]\n'
    )
    assert detect_format(path) == "trtexec"
    trace = import_dump(path, None)
    assert np.array_equal(
        trace.read("logits"), np.array([[1, -np.inf, np.nan]], np.float32), equal_nan=True
    )
    assert trace.read("scalar").shape == ()
    assert trace.record("logits").tap.kind == "output"
    assert "6 digits" in trace.header.effective["digits"]


def test_exported_outputs_that_are_damaged(tmp_path):
    path = tmp_path / "out.json"
    entries = [
        {"name": "a", "dimensions": "(2)", "values": [1]},
        {"name": "b", "dimensions": "(1)", "values": ["x"]},
        {"dimensions": "(1)", "values": [1]},
        {"name": "c", "dimensions": "(1)", "values": [3]},
    ]
    path.write_text(json.dumps(entries))
    trace = import_dump(path, None)
    assert [one.name for one in trace.records] == ["c"]
    assert len(trace.header.untapped) == 3
    path.write_text(json.dumps(entries)[:-20])
    with pytest.raises(TensorError, match="damaged or cut off"):
        import_dump(path, None)


def test_takes_no_map(writer, tmp_path):
    writer.save("x", np.ones(2, np.float32), "numpy")
    with pytest.raises(UsageError, match="takes no map"):
        import_dump(writer.folder, None, mapping=tmp_path)
