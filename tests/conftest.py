"""Fixtures that every kind of test may use."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT.parent / "shared" / "assets"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def assets() -> Path:
    """The real models and photographs; a test that asks for them skips where they are absent."""
    if not ASSETS.is_dir():
        pytest.skip(f"needs the assets in {ASSETS}")
    return ASSETS


@pytest.fixture(scope="session")
def diagnoses():
    """The module `tests/unit/report/diagnoses.py`: `make_diagnosis()` and its parts."""
    path = ROOT / "tests" / "unit" / "report" / "diagnoses.py"
    spec = importlib.util.spec_from_file_location("diagnoses", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def digits_folder() -> Path:
    """The demo's folder: model.py, train.py and ship.toml."""
    return ROOT / "examples" / "digits"


@pytest.fixture(scope="session")
def shipway() -> Command:
    """Run the command line as a process of its own and return what came out."""

    def run(
        *arguments: str | Path, cwd: Path | None = None, timeout: float = 300, **variables: str
    ):
        return subprocess.run(
            [sys.executable, "-m", "shipway", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
