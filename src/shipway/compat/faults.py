"""What the drop-ins raise: errors of Shipway that scripts can catch as those of the original tools."""

from __future__ import annotations

from shipway.compat.journal import JOURNAL
from shipway.errors import ModelError, UsageError

__all__ = [
    "CycleFound",
    "NameTaken",
    "NodeMissing",
    "Unsupported",
    "UnsupportedAttribute",
    "UnsupportedImport",
]


class NodeMissing(ModelError, KeyError, ValueError):
    """The graph has no node of that name. MagicONNX raised ValueError, auto_optimizer KeyError."""

    def __init__(self, name: object) -> None:
        """Say which."""
        super().__init__(
            f"The graph has no node, input, output or constant named '{name}'.",
            hint="Exporters number nodes anew in every release: look the name up in the model at hand.",
        )

    def __str__(self) -> str:
        return str(self.args[0])


class NameTaken(ModelError, ValueError, AssertionError):
    """Something in the graph has the name already."""

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"The graph has a node, input, output or constant named '{name}' already.",
            hint="Give the new one another name.",
        )


class CycleFound(ModelError, RuntimeError):
    """Nodes wait for each other."""


class Unsupported(UsageError, NotImplementedError):
    """A call of the original tool that its drop-in does not have. Raising one notes it down."""

    def __init__(self, call: str, *, hint: str = "") -> None:
        """Note the call for the closing line."""
        super().__init__(f"Shipway's drop-in has no {call}.", hint=hint)
        JOURNAL.unsupported(call)


class UnsupportedAttribute(Unsupported, AttributeError):
    """An attribute of the original tool's classes that the drop-in does not have."""


class UnsupportedImport(Unsupported, ImportError):
    """A module or name of the original tool that the drop-in does not have."""
