"""Kinds of files, told from bytes that the real tools wrote; no pickle is executed for it."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shipway.source.archives import archive_kind, pickled_class


def save(path: Path, value: object, *, is_zip: bool = True, protocol: int = 2) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    return path


def test_torch_files_of_both_ages(tmp_path: Path):
    tensors = {"x": torch.zeros(3)}
    assert archive_kind(save(tmp_path / "new.pth", tensors)) == "torch-zip"
    assert archive_kind(save(tmp_path / "old.pth", tensors, is_zip=False)) == "torch-legacy"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_archive(tmp_path: Path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "net.pt")
    assert archive_kind(tmp_path / "net.pt") == "torchscript"


def test_an_exported_program(tmp_path: Path):
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert archive_kind(tmp_path / "net.pt2") == "exported-program"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_package(tmp_path: Path):
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "n.pt2"))
    assert archive_kind(Path(path)) == "aotinductor-package"


def test_safetensors_and_plain_pickles(tmp_path: Path):
    save_file({"x": torch.zeros(3)}, tmp_path / "x.bin")
    assert archive_kind(tmp_path / "x.bin") == "safetensors"
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"x": 1}))
    assert archive_kind(tmp_path / "x.pkl") == "pickle"


def test_other_bytes_and_other_zip_files(tmp_path: Path):
    (tmp_path / "x.pth").write_bytes(b"<!DOCTYPE html>")
    assert archive_kind(tmp_path / "x.pth") == "unknown"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    assert archive_kind(tmp_path / "x.zip") == "unknown"


def test_a_zip_archive_without_its_end_is_truncated(tmp_path: Path):
    data = save(tmp_path / "x.pth", {"x": torch.zeros(3)}).read_bytes()
    (tmp_path / "x.pth").write_bytes(data[:-40])
    assert archive_kind(tmp_path / "x.pth") == "truncated"


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_the_class_of_a_pickled_object_is_found(tmp_path: Path, *, is_zip: bool, protocol: int):
    path = save(tmp_path / "x.pth", nn.Sequential(nn.ReLU()), is_zip=is_zip, protocol=protocol)
    assert pickled_class(path) == "torch.nn.modules.container.Sequential"


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "value",
    [
        {"x": torch.zeros(1)},
        OrderedDict(x=torch.zeros(1)),
        [torch.zeros(1)],
        torch.zeros(1),
        nn.Parameter(torch.zeros(1)),
    ],
    ids=["dict", "ordered", "list", "tensor", "parameter"],
)
def test_tensors_in_plain_containers_have_no_class(
    tmp_path: Path, value, *, is_zip: bool, protocol: int
):
    path = save(tmp_path / "x.pth", value, is_zip=is_zip, protocol=protocol)
    assert pickled_class(path) == ""


def test_a_damaged_pickle_has_no_class(tmp_path: Path):
    path = tmp_path / "x.pth"
    data = save(path, nn.ReLU(), is_zip=False).read_bytes()
    for size in range(30, 200, 7):
        path.write_bytes(data[:size])
        assert pickled_class(path) in {"", "torch.nn.modules.activation.ReLU"}
