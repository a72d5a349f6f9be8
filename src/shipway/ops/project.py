"""Write a new operator as a project that builds and passes its test as it is."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from shipway.errors import OutputError, UsageError
from shipway.files import atomic_folder

__all__ = ["new_project"]

_TEMPLATES = Path(__file__).parent / "template"
_FILES = {
    "pyproject.toml": "pyproject.toml.in",
    "README.md": "README.md.in",
    "Makefile": "Makefile.in",
    "src/${name}/__init__.py": "init.py.in",
    "src/${name}/operator.py": "operator.py.in",
    "src/${name}/${name}.cpp": "kernel.cpp.in",
    "tests/test_${name}.py": "test_operator.py.in",
}


def new_project(name: str, parent: Path, *, domain: str = "") -> tuple[Path, tuple[Path, ...]]:
    """Write the project of a new operator.

    Args:
        name: Name of the operator, of its Python package and of the folder: my_add.
        parent: Where the folder goes.
        domain: Torch namespace and ONNX domain; the name if not given.

    Returns:
        The folder, and the files in it.

    Raises:
        UsageError: The name is no Python name, or the folder is there already.
        OutputError: The folder cannot be written.
    """
    domain = domain or name
    for what, text in (("name", name), ("domain", domain)):
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", text) or keyword.iskeyword(text):
            raise UsageError(
                f"'{text}' cannot be the {what} of an operator.",
                hint="Use small letters, digits and underscores, e.g. shipway op new my_add",
            )
    folder = parent / name
    if folder.exists():
        raise OutputError(f"{folder} is there already.", hint="Give another name or --output.")
    words = {
        "name": name,
        "domain": domain,
        "onnx_name": "".join(word.capitalize() for word in name.split("_")),
    }
    written = []
    with atomic_folder(folder) as scratch:
        for target, source in _FILES.items():
            path = scratch / Template(target).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (_TEMPLATES / source).read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(words), encoding="utf-8")
            written.append(folder / path.relative_to(scratch))
    return folder, tuple(written)
