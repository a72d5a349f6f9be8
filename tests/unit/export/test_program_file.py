"""Programs on disk: what was saved comes back, and a full disk ends nothing but the writing."""

from __future__ import annotations

import errno
import io
import math

import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export import program_file
from shipway.export.program_file import save_program


@pytest.fixture(scope="module")
def program():
    return torch.export.export(nn.Linear(40, 50), (torch.zeros(2, 40),))


def test_a_program_comes_back(program, tmp_path):
    """Weights and all."""
    save_program(program, tmp_path / "p.pt2")
    again = torch.export.load(tmp_path / "p.pt2")
    x = torch.randn(2, 40)
    assert torch.equal(again.module()(x), program.module()(x))


class Full(io.FileIO):
    """A file on a disk that has room for a thousand bytes."""

    written = 0

    def write(self, data):
        self.written += len(data)
        if self.written > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(program, tmp_path, monkeypatch):
    """torch's own writer would abort."""
    path = tmp_path / "p.pt2"
    monkeypatch.setattr(type(path), "open", lambda self, mode: Full(str(self), mode))
    with pytest.raises(OSError, match="No space left") as caught:
        save_program(program, path)
    assert caught.value.errno == errno.ENOSPC


def test_what_comes_after_an_error_is_dropped():
    """The first error is the one that is told."""
    with Full("/dev/null", "wb") as stream:
        writer = program_file._Writer(stream)
        assert writer.write(b"x" * 900) == 900
        assert writer.write(b"x" * 900) == 900
        assert writer.error is not None
        assert writer.write(b"x") == 1


class TakesTheFloor(nn.Module):
    def forward(self, x):
        return x * math.floor(x.shape[0] / 2)


def test_what_torch_cannot_save_is_named_with_its_line(tmp_path):
    """Its serializer has no form for math.floor, and says so in a page."""
    shapes = {"x": {0: torch.export.Dim("n")}}
    program = torch.export.export(TakesTheFloor(), (torch.zeros(6, 4),), dynamic_shapes=shapes)
    with pytest.raises(ExportError, match=r"takes floor of a size, at .*math\.floor") as caught:
        save_program(program, tmp_path / "p.pt2")
    assert "//" in caught.value.hint
    assert "test_program_file.py:" in str(caught.value)


def test_any_other_failure_of_torch_is_told_in_one_line(program, tmp_path, monkeypatch):
    def fail(*_words):
        raise RuntimeError("a page\n\nof text\n")

    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(ExportError, match="cannot save the exported program: of text"):
        save_program(program, tmp_path / "p.pt2")
