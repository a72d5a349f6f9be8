"""Which Python files are the user's own, and which of them a module depends on."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

__all__ = ["imported_files", "is_own_file", "is_own_module", "module_file"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})


def is_own_file(path: Path) -> bool:
    """Whether a file is code of the user's: not the standard library, not installed, not Shipway."""
    if not path.is_absolute() or _INSTALLED & set(path.parts):
        return False
    return not any(path.is_relative_to(root) for root in _foreign_roots())


@functools.cache
def _foreign_roots() -> tuple[Path, ...]:
    stdlib = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    roots = [*map(Path, stdlib), *(Path(path).resolve() for path in stdlib)]
    # Shipway itself may lie in a source tree (an editable install); it is never the user's model.
    return (*roots, Path(__file__).resolve().parents[1])


def module_file(module: ModuleType | None) -> Path | None:
    """Return the file of a module, None where it has none (built in, namespace package)."""
    # Straight from __dict__: torch.classes and others answer every attribute with an error.
    name = getattr(module, "__dict__", {}).get("__file__")
    return Path(name) if isinstance(name, str) else None


def is_own_module(module: ModuleType | None) -> bool:
    """Whether a module, or a package without `__init__.py`, is the user's."""
    path = module_file(module)
    if path is not None:
        return is_own_file(path)
    if type(module) is not ModuleType:
        return False
    return any(is_own_file(Path(folder)) for folder in module.__dict__.get("__path__", ()))


def imported_files(module: ModuleType) -> tuple[Path, ...]:
    """Return the file of `module` and every file of the user's it imports, directly or not.

    Follows the import statements in the source through `sys.modules`, so it also finds modules
    imported before, and those of which only a constant was taken.
    """
    pending: list[ModuleType] = [module]
    found: dict[Path, None] = {}
    while pending:
        current = pending.pop()
        path = module_file(current)
        if path is None or path in found or not is_own_file(path):
            continue
        found[path] = None
        names = (*_parents(current.__name__), *_imported_names(path, current))
        pending.extend(sys.modules[name] for name in names if sys.modules.get(name) is not None)
    return tuple(found)


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _imported_names(path: Path, module: ModuleType) -> Iterator[str]:
    if path.suffix != ".py" or not path.is_file():
        return
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _names_from(node, module.__dict__.get("__package__") or "")
        else:
            continue
        for name in names:
            yield name
            yield from _parents(name)


def _names_from(node: ast.ImportFrom, package: str) -> list[str]:
    base = node.module or ""
    if node.level:
        try:
            base = importlib.util.resolve_name("." * node.level + base, package)
        except ImportError:  # an import in a function that never ran, and would fail if it did
            return []
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]
