"""How long work tells its caller how far it is, without printing anything itself."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SILENT", "Progress", "Silent"]


class Progress(Protocol):
    """Receives the steps of a long task; the command line draws a bar from them."""

    def start(self, task: str, total: int | None = None) -> None:
        """Begin `task`; `total` steps are to come, or an unknown number."""

    def advance(self, steps: int = 1) -> None:
        """Say that `steps` more steps of the current task are done."""


class Silent:
    """A Progress that drops everything: the default of every function that takes one."""

    def start(self, task: str, total: int | None = None) -> None:
        """Do nothing with `task` and `total`."""

    def advance(self, steps: int = 1) -> None:
        """Do nothing with `steps`."""


SILENT = Silent()
"""The one Silent everybody shares."""
