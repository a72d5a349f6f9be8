"""The command line explains itself, quickly."""

import re
import subprocess
import sys

import pytest

from shipway.cli.app import COMMANDS

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "onnxscript", "scipy", "PIL")


def heavy_modules(code: str) -> list[str]:
    """Run `code` in a new interpreter and return which heavy packages it imported."""
    script = f"import sys\n{code}\nprint(','.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return [name for name in done.stdout.splitlines()[-1].split(",") if name]


def test_importing_shipway_imports_no_runtime() -> None:
    assert heavy_modules("import shipway; dir(shipway)") == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_no_runtime(command: str) -> None:
    words = [*([command] if command else []), "--help"]
    assert heavy_modules(f"from shipway.cli.app import app\napp({words!r})") == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_shows_an_example_and_describes_every_flag(shipway, command: str) -> None:
    done = shipway(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"shipway {command}" in done.stdout.replace("Usage: shipway", "")
    for row in done.stdout.split("Parameters")[-1].splitlines():
        assert not re.fullmatch(r"│ +\*? *--[\w-]+( --no-[\w-]+)? *│", row), f"no text: {row}"


def test_version_is_the_package_version(shipway) -> None:
    from importlib.metadata import version

    assert shipway("--version").stdout.strip() == version("shipway")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["depoly"], "deploy"),
        (["deploy"], "source"),
        (["run", "m.onnx", "--lop", "3"], "--lop"),
        (["run", "m.onnx", "--loop", "many"], "many"),
    ],
)
def test_usage_mistakes_exit_2_and_point_to_help(shipway, words: list[str], message: str) -> None:
    done = shipway(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr
