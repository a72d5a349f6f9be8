"""A folder for the user's project, and a clean table of modules after each test."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn

from shipway.source import imports

WriteFile = Callable[[str, str], Path]


class Net(nn.Module):
    """A small network with a parameter, a buffer and a number of dimensions each."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 2)

    def forward(self, image):
        return self.head(self.norm(self.conv(image)).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    """The network with its own numbers, in eval mode."""
    return Net().eval()


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    """Forget the code of earlier tests: they all call their files net.py."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    imports._LOADS.clear()
    for name in set(sys.modules) - set(modules):
        if imports.is_own_module(sys.modules[name]):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, made the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def write(project: Path) -> WriteFile:
    """Write a Python file of the project: name and source, indented as the test is."""

    def write_file(name: str, source: str) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    return write_file
