"""Execute the user's Python code next to its siblings, without one project meeting another.

Python keeps one table of modules, so two projects that both have a `layers.py` would share it. Here
each load sees only its own modules; what an earlier load brought in comes back afterwards where
its name is still free.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import linecache
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from shipway.errors import ModelError
from shipway.files import file_sha256
from shipway.source.modelfiles import shown_path
from shipway.source.ownership import imported_files, is_own_module, module_file
from shipway.source.quoting import quote_errors

__all__ = ["Workspace", "workspace"]


@dataclass(slots=True)
class Workspace:
    """The user's code as one load sees it.

    Args:
        folders: Folders in front of `sys.path`.
        module: The module asked for, once it is imported.
        brought: Modules of the user's that this load imported, by name.
        hashes: SHA-256 of every file behind them, to see whether they are still the same.
        reusable: Whether a later load of the same code may have this module.
    """

    folders: tuple[Path, ...]
    module: ModuleType | None = None
    brought: dict[str, ModuleType] = field(default_factory=dict)
    hashes: dict[Path, str] = field(default_factory=dict)
    reusable: bool = True

    @property
    def imported(self) -> ModuleType:
        """The module asked for; to be read after an import."""
        if self.module is None:
            raise ModelError("No module was imported.")
        return self.module

    @property
    def files(self) -> tuple[Path, ...]:
        """Every Python file of the user's that was executed, the one asked for first."""
        return tuple(self.hashes)

    def import_file(self, path: Path) -> ModuleType:
        """Execute a Python file, or return its module if it was executed and has not changed.

        A file with relative imports is imported as part of the package its folder is.

        Raises:
            ModelError: The file is not valid Python, or its code raises.
        """
        if self.module is None:
            with quote_errors(shown_path(path)):
                package = _package_of(path)
                if package is not None and _needs_package(path):
                    root, name = package
                    sys.path.insert(0, str(root))
                    self.module = importlib.import_module(name)
                else:
                    self.module = _execute(path, _free_name(path, self.folders))
        return self.module

    def import_module(self, name: str) -> ModuleType:
        """Import a module by its dotted name.

        Raises:
            ModelError: There is no such module, or its code raises.
        """
        if self.module is None:
            with quote_errors(f"The module {name}"):
                try:
                    self.module = importlib.import_module(name)
                except ModuleNotFoundError as error:
                    if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                        raise
                    raise ModelError(
                        f"There is no module '{error.name}' here.",
                        hint=f"Searched {Path.cwd()} and the Python path. "
                        "Run the command in the folder above the package, or give file.py:name.",
                    ) from error
        return self.module

    def record(self, before: set[str]) -> None:
        """Note the modules that were imported since `before`, and the files behind them."""
        imported = {name: sys.modules[name] for name in set(sys.modules) - before}
        self.brought = {name: module for name, module in imported.items() if is_own_module(module)}
        main = module_file(self.module)
        paths = {main, *map(module_file, self.brought.values())}
        paths |= set(imported_files(self.module) if self.module else ())
        found = [path for path in paths if path is not None and path.is_file()]
        ordered = sorted(found, key=lambda path: (path != main, path))
        self.hashes = {path: file_sha256(path) for path in ordered}

    def is_current(self) -> bool:
        """Whether the module was executed and no file behind it has changed since."""
        return (
            self.reusable
            and self.module is not None
            and all(
                path.is_file() and file_sha256(path) == digest
                for path, digest in self.hashes.items()
            )
        )


_LOADS: dict[str, Workspace] = {}


@contextlib.contextmanager
def workspace(key: str, *folders: Path) -> Iterator[Workspace]:
    """Make `folders` importable and keep the modules of other loads out of the way.

    While the block runs, `print` goes to stderr (a command's stdout is its result) and `sys.argv`
    holds the program alone, so that code which reads it does not see Shipway's flags.

    Args:
        key: What is loaded; a second load of the same key reuses code that has not changed.
        folders: Folders for the front of `sys.path`.
    """
    space = _LOADS.pop(key, None) or Workspace(folders)
    _take_out(space.brought)
    if not space.is_current():
        space = Workspace(folders)
    aside = {name: module for other in _LOADS.values() for name, module in other.brought.items()}
    aside = _take_out(aside)
    before = set(sys.modules)
    sys.modules.update(space.brought)
    importlib.invalidate_caches()
    completed = False
    try:
        with _script_settings(folders):
            yield space
        completed = True
    finally:
        _settle(key, space, before, completed=completed)
        for name, module in aside.items():
            sys.modules.setdefault(name, module)


def _take_out(modules: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """Take those of `modules` that are in force out of the table of modules and return them."""
    in_force = {name: module for name, module in modules.items() if sys.modules.get(name) is module}
    for name in in_force:
        del sys.modules[name]
    return in_force


@contextlib.contextmanager
def _script_settings(folders: tuple[Path, ...]) -> Iterator[None]:
    arguments = sys.argv
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    sys.argv = arguments[:1]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.argv = arguments
        for entry in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(entry)


def _settle(key: str, space: Workspace, before: set[str], *, completed: bool) -> None:
    """Keep the load if its code ran, even where the factory failed; else drop what half ran."""
    if completed or space.module is not None:
        space.record(before)
        _LOADS[key] = space
        return
    for name in set(sys.modules) - before:
        if is_own_module(sys.modules[name]):
            del sys.modules[name]


def _needs_package(path: Path) -> bool:
    tree = ast.parse(path.read_bytes(), str(path))
    relative = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    return relative or path.stem == "__init__"


def _package_of(path: Path) -> tuple[Path, str] | None:
    """Return the folder above the package a file is in and its dotted name there."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name:
        parts.insert(0, folder.name)
        folder = folder.parent
    top = sys.modules.get(parts[0]) if parts else None
    is_free = top is None or str(folder / parts[0]) in getattr(top, "__path__", ())
    return (folder, ".".join(parts)) if folder != path.parent and is_free else None


def _free_name(path: Path, folders: tuple[Path, ...]) -> str:
    """Return the stem of a file as its module name, with a hash where that name means another."""
    stem = re.sub(r"\W", "_", path.stem)
    elsewhere = [entry for entry in sys.path if Path(entry) not in folders]
    spec = PathFinder.find_spec(stem, elsewhere)
    is_other = spec is not None and (
        not spec.origin or Path(spec.origin).resolve() != path.resolve()
    )
    if stem in sys.modules or stem in sys.stdlib_module_names or is_other:
        return f"{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    return stem


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{shown_path(path)} is not a Python file.")
    linecache.checkcache(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
