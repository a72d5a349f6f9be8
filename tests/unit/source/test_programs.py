"""Exported programs: inputs as they are, damaged files refused, no pickled code run."""

import contextlib
import io
import json
import logging
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from shipway.errors import ModelError
from shipway.source.programs import load_program, program_inputs
from shipway.tensors import TensorSpec


class Net(nn.Module):
    """Two tensors, one of them optional and by keyword, and a number the export freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("offset", torch.ones(3))

    def forward(self, x, scale=2, mask=None):
        y = self.head(x) * scale + self.offset
        return y if mask is None else y + mask


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        Net().eval(),
        (torch.randn(2, 4),),
        {"scale": 3, "mask": torch.zeros(3, dtype=torch.int64)},
        dynamic_shapes={"x": {0: batch}, "scale": None, "mask": None},
    )
    torch.export.save(program, path)
    return path


def rewrite(source: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """Copy a .pt2 archive with some entries replaced or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        entries = {name: old.read(name) for name in old.namelist()}
        entries |= {f"{root}/{name}": data for name, data in changes.items()}
        for name, data in entries.items():
            new.writestr(name, data)
    return target


class Runner:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_inputs_are_the_tensors_in_call_order_with_dynamic_sizes_named(saved: Path):
    first, second = program_inputs(load_program(saved, allow_pickle=False), saved)
    assert (first.name, first.dtype, first.shape[1]) == ("x", "float32", 4)
    assert isinstance(first.shape[0], str)
    assert second == TensorSpec("mask", "int64", (3,))


def test_the_program_computes_what_the_module_did(saved: Path):
    program = load_program(saved, allow_pickle=False)
    x, mask = torch.randn(5, 4), torch.ones(3, dtype=torch.int64)
    module = program.module()
    expected = nn.functional.linear(x, module.head.weight, module.head.bias) * 3 + 1 + mask
    torch.testing.assert_close(module(x, scale=3, mask=mask), expected)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8, torch.int32]
)
def test_each_dtype_keeps_its_name(tmp_path: Path, dtype: torch.dtype):
    program = torch.export.export(nn.Identity(), (torch.zeros(2, 1, dtype=dtype),))
    (spec,) = program_inputs(program, tmp_path)
    assert f"torch.{spec.dtype}" == str(dtype)


def test_a_dtype_nobody_carries_is_named_with_its_input(tmp_path: Path):
    program = torch.export.export(nn.Identity(), (torch.zeros(2, dtype=torch.complex64),))
    with pytest.raises(ModelError, match=r"its input 'input' is torch\.complex64"):
        program_inputs(program, tmp_path / "net.pt2")


def test_a_dynamic_number_is_no_tensor(tmp_path: Path):
    class Times(nn.Module):
        def forward(self, x, n):
            return x * n

    shapes = {"x": None, "n": torch.export.Dim.DYNAMIC}
    program = torch.export.export(Times(), (torch.zeros(2), 3), dynamic_shapes=shapes)
    with pytest.raises(ModelError, match="its input 'n' is not a tensor"):
        program_inputs(program, tmp_path / "net.pt2")


@pytest.mark.parametrize("where", ["sample inputs", "weights", "constants"])
def test_pickled_code_in_any_corner_does_not_run_unless_allowed(
    saved: Path, tmp_path: Path, where: str
):
    stream = io.BytesIO()
    torch.save(Runner(tmp_path / "ran"), stream)
    changes = {"data/sample_inputs/model.pt": stream.getvalue()}
    if where == "weights":
        changes = _pickled_entry(saved, "weights", "weight_0", stream.getvalue())
    if where == "constants":
        changes = _pickled_entry(
            saved, "constants", "opaque_obj_0", pickle.dumps(Runner(tmp_path / "ran"))
        )
    path = rewrite(saved, tmp_path / "bad.pt2", changes)
    with pytest.raises(ModelError) as caught:
        load_program(path, allow_pickle=False)
    assert caught.value.hint == "If you trust the file, add --allow-pickle."
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(ModelError):
        load_program(path, allow_pickle=True)
    assert (tmp_path / "ran").exists()


def _pickled_entry(saved: Path, kind: str, entry: str, data: bytes) -> dict[str, bytes]:
    config_name = f"data/{kind}/model_{kind}_config.json"
    with zipfile.ZipFile(saved) as archive:
        root = archive.namelist()[0].partition("/")[0]
        config = json.loads(archive.read(f"{root}/{config_name}"))
    key = next(iter(config["config"]), "extra")
    config["config"][key] = {
        "path_name": entry,
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }
    return {config_name: json.dumps(config).encode(), f"data/{kind}/{entry}": data}


def test_the_settings_of_torch_are_put_back(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    load_program(saved, allow_pickle=False)
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_file_cut_off_anywhere_is_refused(saved: Path, tmp_path: Path):
    data = saved.read_bytes()
    path = tmp_path / "net.pt2"
    for size in range(1, len(data), len(data) // 40):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"truncated|not an exported program"):
            load_program(path, allow_pickle=False)


@pytest.mark.parametrize(
    "entry", ["models/model.json", "data/weights/model_weights_config.json", "archive_version"]
)
def test_a_damaged_entry_gives_one_sentence_and_no_log(
    saved: Path, tmp_path: Path, entry: str, caplog: pytest.LogCaptureFixture
):
    path = rewrite(saved, tmp_path / "bad.pt2", {entry: b"{damaged"})
    with caplog.at_level(logging.DEBUG), pytest.raises(ModelError, match="cannot be loaded: "):
        load_program(path, allow_pickle=False)
    assert not caplog.records


def test_bytes_changed_inside_are_noticed(saved: Path, tmp_path: Path):
    data = bytearray(saved.read_bytes())
    at = data.index(b'"graph_module"')
    data[at + 2] ^= 1
    (tmp_path / "net.pt2").write_bytes(data)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_program(tmp_path / "net.pt2", allow_pickle=False)


def test_a_compiled_package_is_sent_to_run(tmp_path: Path):
    """The entries are those that torch 2.13 writes; test_archives has one that torch compiled."""
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/data/aotinductor/model/abc.wrapper.so", b"\x7fELF")
    with pytest.raises(ModelError, match="is compiled already") as caught:
        load_program(tmp_path / "net.pt2", allow_pickle=False)
    assert f"shipway run {tmp_path / 'net.pt2'}" in caught.value.hint


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04garbage", b"\x80\x02}."])
def test_garbage_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_program(tmp_path / "net.pt2", allow_pickle=False)
    assert "torch.export.save" in caught.value.hint
