"""The .pth files of msit's hooks, in the folders that dump_hook.py of msit 8.2.0 makes."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shipway.errors import UsageError
from shipway.trace.importing.registry import detect_format, import_dump


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "msit_dump_20261130_101112" / "torch_tensors" / "cpu_4711" / "0"
    clock = iter(range(100))

    def save(name: str, file: str, value: torch.Tensor) -> None:
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(value, path)
        os.utime(path, ns=(next(clock) * 10**9,) * 2)

    x = torch.arange(4.0)
    save("root.layer1.0.relu", "input_0.pth", x)
    save("root.layer1.0.relu", "output.pth", x + 1)
    save("root.lstm", "input_0.pth", x + 1)
    save("root.lstm", "output_0.pth", (x + 2).to(torch.bfloat16))
    save("root.lstm", "output_1_0.pth", x + 3)
    save("softmax_0", "output.pth", x + 4)
    save("root", "output.pth", x + 5)
    return folder


def test_modules_in_the_order_they_returned(run, tmp_path):
    assert detect_format(tmp_path) == "msprobe"
    trace = import_dump(tmp_path, None)
    names = {record.name: record.tap.names for record in trace.records}
    assert names == {
        "root.layer1.0.relu.input_0": (),
        "root.layer1.0.relu.output": ("layer1.0.relu",),
        "root.lstm.output_0": ("lstm", "lstm.0"),
        "root.lstm.output_1_0": ("lstm.1.0",),
        "softmax_0.output": (),
        "root.output": (),
    }
    assert list(names)[-1] == "root.output"
    assert trace.record("root.output").tap.kind == "output"
    assert trace.record("root.lstm.output_0").dtype == "bfloat16"
    assert np.array_equal(trace.read("root.layer1.0.relu.output"), [1, 2, 3, 4])
    assert trace.header.left_out == 1


def test_a_real_dump(tmp_path):
    """msit 8.2.0 wrote it, of nn.Sequential(Linear, ReLU), an LSTM and a softmax."""
    with zipfile.ZipFile(Path(__file__).parent / "samples" / "msit-8.2.0.zip") as archive:
        archive.extractall(tmp_path)
    trace = import_dump(tmp_path, None)
    assert not trace.header.untapped
    assert len(trace.records) == 8
    before, after = (trace.read(f"root.layer1.{n}.output") for n in (0, 1))
    assert np.array_equal(after, np.maximum(before, 0))
    tap = trace.record("root.lstm.output_0").tap
    assert (tap.names, tap.module, tap.module_class) == (("lstm", "lstm.0"), "lstm", "LSTM")
    assert trace.record("root.output").tap.module_class == "Net"


def test_several_passes_and_damaged_files(run):
    (run / "root.lstm" / "output_0.pth").write_bytes(b"PK")
    (run / "root" / "notes.txt").write_text("x")
    trace = import_dump(run, None)
    assert set(trace.header.untapped) == {"root.lstm.output_0", "root/notes.txt"}
    (run.parent / "model_tree.json").write_text(
        '{"name": "root", "children": [3, {"type": "LSTM"}]}'
    )
    assert "root.output" in import_dump(run, None)
    other = run.parent / "1" / "root"
    other.mkdir(parents=True)
    torch.save(torch.ones(2), other / "output.pth")
    with pytest.raises(UsageError, match="2 forward passes"):
        import_dump(run.parent, None)
