"""Lets a script's imports of the old tools find their drop-ins."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from shipway.compat.faults import UnsupportedImport
from shipway.compat.journal import JOURNAL

__all__ = ["drop_ins"]

_MAGIC = "shipway.compat.magiconnx"
_AUTO = "shipway.compat.auto_optimizer"
_MODULES = {
    "magiconnx": _MAGIC,
    "magiconnx.graph": f"{_MAGIC}.graph",
    "magiconnx.node": _MAGIC,
    "magiconnx.interface": _MAGIC,
    "magiconnx.core": _MAGIC,
    "magiconnx.core.graph": f"{_MAGIC}.graph",
    "magiconnx.core.node": f"{_MAGIC}.node",
    "magiconnx.optimize": f"{_MAGIC}.optimize",
    "magiconnx.optimize.optimizer_manager": f"{_MAGIC}.optimize",
    "auto_optimizer": _AUTO,
    "auto_optimizer.graph_refactor": _AUTO,
    "auto_optimizer.graph_refactor.interface": _AUTO,
    "auto_optimizer.graph_refactor.interface.base_graph": _AUTO,
    "auto_optimizer.graph_refactor.interface.base_node": _AUTO,
    "auto_optimizer.graph_refactor.onnx": _AUTO,
    "auto_optimizer.graph_refactor.onnx.graph": _AUTO,
    "auto_optimizer.graph_refactor.onnx.node": _AUTO,
}
_CLONE = "MagicONNX"
"""Scripts beside a clone of its repository import `MagicONNX.magiconnx`."""
_INSTEAD = "What surgeon's knowledges do, shipway graph edit does: see its --help."
_TITLES = {"magiconnx": "MagicONNX", "auto_optimizer": "auto_optimizer"}


class _DropIn(Loader):
    """Fills a module of the old name with what the drop-in's has."""

    def __init__(self, target: str | None) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002 -- Python's form
        """Leave making the module to Python."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Take over every name of the drop-in."""
        if self._target is None:
            return
        source = importlib.import_module(self._target)
        for name, value in vars(source).items():
            if not name.startswith("__") or name in {"__all__", "__doc__"}:
                setattr(module, name, value)
        module.__getattr__ = partial(_refuse, module.__name__)  # type: ignore[method-assign] # PEP 562


def _refuse(module: str, name: str) -> Any:
    """Refuse what the drop-in does not have, by its name."""
    if name.startswith("__"):
        raise AttributeError(name)
    raise UnsupportedImport(f"{module}.{name}", hint=_INSTEAD)


class _Finder(MetaPathFinder):
    """Finds the old tools' modules before anything that is installed."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- Python's form
        target: ModuleType | None = None,  # noqa: ARG002 -- Python's form
    ) -> ModuleSpec | None:
        """Return where a module of an old tool comes from."""
        name = fullname.removeprefix(f"{_CLONE}.")
        root = name.partition(".")[0]
        if fullname == _CLONE:
            return ModuleSpec(fullname, _DropIn(None), is_package=True)
        if root not in _TITLES:
            return None
        JOURNAL.imported(_TITLES[root])
        if name not in _MODULES:
            raise UnsupportedImport(f"module {fullname}", hint=_INSTEAD)
        return ModuleSpec(fullname, _DropIn(_MODULES[name]), is_package=True)


@contextmanager
def drop_ins() -> Iterator[None]:
    """While it lasts, importing MagicONNX or auto_optimizer gives the drop-ins."""
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [one for one in sys.modules if _is_old(one)]:
            del sys.modules[name]


def _is_old(name: str) -> bool:
    return name.partition(".")[0] in {*_TITLES, _CLONE}
