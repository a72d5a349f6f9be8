"""Python runs this before a script that `shipway trace --exec` records.

It waits until the script has imported torch, and only then loads the recorder. The sitecustomize that
would have been run otherwise is run too. It must not fail, and must not cost the script anything.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_STATE = "SHIPWAY_TRACE_STATE"
_TORCH = "torch"


class _TorchFinder(importlib.abc.MetaPathFinder):
    """Finds torch where it is, and has the recorder started once it is loaded."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- the interface of Python
        target: ModuleType | None = None,  # noqa: ARG002 -- the same
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TORCH:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(_TORCH)
        if spec is not None and spec.loader is not None:
            spec.loader = _TorchLoader(spec.loader)
        return spec


class _TorchLoader(importlib.abc.Loader):
    """Loads torch as its own loader does."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _start_recorder()


def _start_recorder() -> None:
    state = Path(os.environ[_STATE])
    try:
        _shipway()
        recorder = importlib.import_module("shipway.trace.script_recorder")
        recorder.start(state)
    except Exception as error:  # noqa: BLE001 -- the script must run whatever is wrong with us
        text = f"{type(error).__name__}: {error}"
        (state / f"broken-{os.getpid()}").write_text(f"{sys.executable}\n{text}", encoding="utf-8")


def _shipway() -> None:
    """Make the Shipway that records importable, and nothing else of where it is installed."""
    if "shipway" in sys.modules:
        return
    folder = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location(
        "shipway", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["shipway"] = module
    spec.loader.exec_module(module)


def _run_next() -> None:
    """Run the sitecustomize that this one stands before."""
    here = Path(__file__).parent
    paths = [path for path in sys.path if not path or Path(path).resolve() != here.resolve()]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _begin() -> None:
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    (Path(os.environ[_STATE]) / f"started-{os.getpid()}").write_text(sys.executable)
    sys.meta_path.insert(0, _TorchFinder())


if _STATE in os.environ:
    _begin()
    _run_next()
