"""Dumps of msprobe 26.2.0: the ones in samples/ were written by it, on a CPU."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shipway.errors import TensorError, UsageError
from shipway.trace.importing.registry import detect_format, import_dump

SAMPLE = Path(__file__).parent / "samples" / "msprobe-26.2.0.zip"


@pytest.fixture
def sample(tmp_path) -> Path:
    """`mix_tensor` and `mix_statistics` are of the same PyTorch run, `onnx_run` of another model."""
    with zipfile.ZipFile(SAMPLE) as archive:
        archive.extractall(tmp_path / "sample")
    return tmp_path / "sample"


def test_a_real_dump_of_modules_and_calls(sample):
    folder = sample / "mix_tensor"
    assert detect_format(folder) == "msprobe"
    trace = import_dump(folder, None)
    assert trace.header.engine == "msprobe mix tensor"
    assert not trace.header.untapped
    files = folder / "step0" / "rank0" / "dump_tensor_data"
    for record in trace.records:
        saved = torch.load(files / f"{record.name}.pt", weights_only=True).detach().numpy()
        assert np.array_equal(trace.read(record.name), saved)
    outputs = [record.name for record in trace.records if ".output." in record.name]
    assert len(outputs) == 8
    assert trace.record("Torch.max.0.forward.output.1").dtype == "int64"
    # A weight and an input that several entries read are there once.
    assert trace.header.left_out == len(list(files.iterdir())) - len(trace.records) == 12


def test_modules_lines_and_operators_of_a_real_dump(sample):
    trace = import_dump(sample / "mix_tensor" / "step0" / "rank0", None)
    first, second = (trace.record(f"Module.fc.Linear.forward.{n}.output.0").tap for n in (0, 1))
    assert first.names[0] == "fc"
    assert second.names[0] == "fc#2"
    assert (first.module, first.module_class, first.op) == ("fc", "Linear", "Linear")
    assert (first.source, first.code) == ("net.py:14", "y = torch.relu(self.fc(x))")
    inner = trace.record("Functional.linear.1.forward.output.0").tap
    assert (inner.op, inner.module, inner.source) == ("Functional.linear", "fc", "net.py:15")
    assert inner.names == ()


def test_statistics_of_a_real_dump(sample):
    facts = import_dump(sample / "mix_statistics", None)
    values = import_dump(sample / "mix_tensor" / "step0" / "rank0" / "dump.json", None)
    record = facts.record("Torch.relu.0.forward.output.0")
    value = values.read("Torch.relu.0.forward.output.0")
    assert record.file is None
    assert record.statistics is None
    assert record.shape == value.shape
    assert record.facts["max"] == value.max()
    assert record.facts["l2"] == pytest.approx(float(np.linalg.norm(value)))
    assert set(record.facts) == {"max", "min", "mean", "l2"}
    with pytest.raises(TensorError):
        facts.read(record.name)


def test_a_real_dump_of_an_onnx_run(sample):
    """The model that msprobe left beside it gives the names of the values."""
    trace = import_dump(sample / "onnx_run", None)
    names = {record.name: record.tap.names[:1] for record in trace.records}
    assert names == {
        "_fc_MatMul:input:0": (),
        "_fc_MatMul:output:0": ("product",),
        "_layer1_layer1_0_Relu:output:0": ("hidden",),
        "Softmax_2:output:0": ("y",),
    }
    product = trace.read("_fc_MatMul:output:0")
    assert np.array_equal(trace.read("_layer1_layer1_0_Relu:output:0"), np.maximum(product, 0))
    assert trace.header.left_out == 2


def test_an_onnx_run_without_its_model_and_with_one(sample, tmp_path):
    files = sample / "onnx_run" / "dump_data" / "onnx"
    model = (sample / "onnx_run" / "model" / "new_small.onnx").rename(tmp_path / "mine.onnx")
    plain = import_dump(files, None).record("_fc_MatMul:output:0").tap
    assert plain.names[:2] == ("_fc_MatMul", "_fc_MatMul:0")
    assert (
        import_dump(files, None, mapping=model).record("_fc_MatMul:output:0").tap.names[0]
        == "product"
    )
    assert (
        import_dump(files, None, model=model).record("_fc_MatMul:output:0").tap.names[0]
        == "product"
    )
    with pytest.raises(UsageError, match="There is no map"):
        import_dump(files, None, mapping=tmp_path / "nowhere")
    # A dump that needs no names is read as it is.
    assert len(import_dump(sample / "mix_tensor", None, model=model).records) == 12


def test_a_long_name_in_an_onnx_run(sample):
    files = sample / "onnx_run" / "dump_data" / "onnx"
    (path,) = files.glob("Softmax_2.*")
    path.rename(files / "17960675353899721.npy")
    (files / "mapping.csv").write_text(
        f"17960675353899721.npy,{'S' * 300}.0.1796067535389972.npy\n"
    )
    (files / "99.npy").write_bytes(b"")
    trace = import_dump(files, None)
    assert "S" * 300 + ":output:0" in trace
    assert "99.npy" in trace.header.untapped


def test_what_is_damaged_does_not_stop_the_rest(sample):
    run = sample / "mix_tensor" / "step0" / "rank0"
    files = run / "dump_tensor_data"
    cut = files / "Torch.relu.0.forward.output.0.pt"
    cut.write_bytes(cut.read_bytes()[:300])
    (files / "Torch.max.0.forward.output.0.pt").unlink()
    torch.save({"a": torch.ones(2)}, files / "Torch.max.0.forward.output.1.pt")
    (run / "stack.json").write_text("{")
    data = json.loads((run / "dump.json").read_text())
    data["data"]["Functional.linear.0.forward"]["output"][0]["dtype"] = "torch.complex64"
    data["data"]["Tensor.__add__.0.forward"]["output"][0]["data_name"] = "../../../dump.json"
    data["data"]["Other.0.forward"] = None
    (run / "dump.json").write_text(json.dumps(data))
    trace = import_dump(run, None)
    why = trace.header.untapped
    assert len(why) == 6
    assert "Torch.relu.0.forward.output.0" in why
    assert "There is no" in why["Torch.max.0.forward.output.0"]
    assert "holds a dict" in why["Torch.max.0.forward.output.1"]
    assert "complex64" in why["Functional.linear.0.forward.output.0"]
    assert "Module.fc.Linear.forward.0.output.0" in trace
    assert trace.record("Module.fc.Linear.forward.0.output.0").tap.source == ""
    # A file outside the folder is not read; what the tool wrote of the tensor is kept.
    assert trace.record("Tensor.__add__.0.forward.output.0").file is None


class _Harmful:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_nothing_in_a_file_is_run(sample, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    files = sample / "mix_tensor" / "step0" / "rank0" / "dump_tensor_data"
    torch.save(_Harmful(), files / "Torch.relu.0.forward.output.0.pt")
    trace = import_dump(sample / "mix_tensor", None)
    assert "Torch.relu.0.forward.output.0" in trace.header.untapped
    assert not Path("ran").exists()


def test_bfloat16_and_arguments_within_arguments(tmp_path):
    value = torch.tensor([1.5, -2.25, float("nan")], dtype=torch.bfloat16)
    run = tmp_path / "step0" / "rank0"
    (run / "dump_tensor_data").mkdir(parents=True)
    torch.save(value, run / "dump_tensor_data" / "Module.a.b.Lstm.forward.0.output.1.state.pt")
    leaf = {"type": "torch.Tensor", "dtype": "torch.bfloat16", "shape": [3], "Max": float("nan"),
            "data_name": "Module.a.b.Lstm.forward.0.output.1.state.pt"}  # fmt: skip
    entry = {"input_args": [{"type": "int", "value": 1}, None], "output": [None, {"state": leaf}]}
    data = {
        "task": "tensor",
        "level": "L0",
        "dump_data_dir": "x",
        "data": {"Module.a.b.Lstm.forward.0": entry},
    }
    (run / "dump.json").write_text(json.dumps(data))
    (run / "construct.json").write_text(json.dumps({"Module.a.b.Lstm.forward.0": None}))
    old_stack = {
        "Module.a.b.Lstm.forward.0": ["File /home/me/net.py, line 3, in forward, \n self.b(x)"]
    }
    (run / "stack.json").write_text(json.dumps(old_stack))
    (record,) = import_dump(tmp_path, None).records
    assert record.name == "Module.a.b.Lstm.forward.0.output.1.state"
    assert (record.dtype, record.tap.module, record.tap.source) == ("bfloat16", "a.b", "net.py:3")
    assert record.tap.names == ("a.b.1.state",)
    trace = import_dump(tmp_path, None)
    bits = trace.read(record.name).view(np.int16)
    assert np.array_equal(bits, value.view(torch.int16).numpy())
    assert trace.header.precision == "bf16"


def test_several_steps(sample, tmp_path):
    (sample / "mix_tensor" / "step0").rename(sample / "step0")
    (sample / "mix_statistics" / "step0").rename(sample / "step1")
    with pytest.raises(UsageError, match="2 dumps") as caught:
        import_dump(sample, None)
    assert "rank0" in caught.value.hint


def test_a_dump_json_that_is_cut_off_or_empty(sample):
    run = sample / "mix_tensor" / "step0" / "rank0"
    text = (run / "dump.json").read_text()
    (run / "dump.json").write_text(text[: len(text) // 2])
    with pytest.raises(TensorError, match="not written to its end"):
        import_dump(run, None)
    (run / "dump.json").write_text('{"level": "L0", "data": []}')
    with pytest.raises(TensorError, match="no 'data'"):
        import_dump(run, None)
    (run / "dump.json").write_text('{"level": "L0", "data": {}}')
    with pytest.raises(TensorError, match="No tensor"):
        import_dump(run, None)


def test_a_pytorch_run_takes_no_map(sample, tmp_path):
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(UsageError, match="takes no map"):
        import_dump(sample / "mix_tensor", None, mapping=tmp_path / "m.json")
