"""The user's own files: neither the standard library nor installed packages nor Shipway."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import shipway
from shipway.source.ownership import imported_files, is_own_file, is_own_module


@pytest.mark.parametrize(
    "module", [np, torch, pytest, types, sys, shipway, torch.classes, torch.ops]
)
def test_installed_and_standard_modules_are_not_the_users(module: types.ModuleType):
    assert not is_own_module(module)


def test_a_file_of_the_project_is_the_users(project: Path):
    assert is_own_file(project / "net.py")
    assert not is_own_file(Path("<frozen importlib._bootstrap>"))
    assert not is_own_file(project / ".venv/lib/python3.11/site-packages/timm/__init__.py")


def test_a_package_without_init_is_the_users(project: Path):
    package = types.ModuleType("package")
    package.__path__ = [str(project / "package")]
    assert is_own_module(package)
    assert not is_own_module(types.ModuleType("made_by_hand"))


def test_what_is_not_a_module_is_not_the_users():
    assert not is_own_module(None)
    assert not is_own_module(object())


def test_imports_are_followed_through_the_source(
    project: Path, write, monkeypatch: pytest.MonkeyPatch
):
    """A constant leaves no trace in the importing module: only its source says where it is from."""
    monkeypatch.syspath_prepend(project)
    write("top.py", "from pack.middle import SIZE\nimport json\n")
    write("pack/__init__.py", "")
    write("pack/middle.py", "from . import sizes\nfrom .sizes import SIZE\n")
    write("pack/sizes.py", "SIZE = 3\n\ndef never():\n    from ..... import nothing\n")
    import top

    found = {path.relative_to(project).as_posix() for path in imported_files(top)}
    assert found == {"top.py", "pack/__init__.py", "pack/middle.py", "pack/sizes.py"}
