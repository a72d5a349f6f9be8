"""The public interface of `import shipway`."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import shipway

ROOT = Path(__file__).resolve().parents[2]


def test_the_lists_of_names_agree() -> None:
    """What is promised, what is found and what a type checker sees are the same names."""
    tree = ast.parse(Path(shipway.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (statement.module, alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    found = {(f"shipway.{home}", name) for name, home in shipway._HOME_OF.items()}
    assert seen == found
    assert sorted(shipway.__all__) == sorted(shipway._HOME_OF)
    assert dir(shipway) == shipway.__all__


@pytest.mark.parametrize("name", shipway.__all__)
def test_each_name_comes_from_its_home_and_is_documented(name: str) -> None:
    value = getattr(shipway, name)
    assert value is getattr(importlib.import_module(f"shipway.{shipway._HOME_OF[name]}"), name)
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        shipway.nonsense  # noqa: B018 -- the access is what is tested


@pytest.mark.slow
def test_the_example_in_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(code) == 1
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(code[0], "README.md", "exec"), {})  # noqa: S102 -- our own README
    printed = capsys.readouterr().out
    assert "'precision': 'f32'" in printed
