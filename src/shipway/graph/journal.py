"""The changes of a simplification in the order they are made, up to a limit."""

from __future__ import annotations

from dataclasses import replace

from shipway.graph.results import Change

__all__ = ["Journal"]


class Journal:
    """Notes changes until there are as many as may be made.

    Args:
        limit: Number of changes to make at most; None for no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Begin empty."""
        self.changes: list[Change] = []
        self._limit = limit

    @property
    def is_done(self) -> bool:
        """Whether no further change may be made."""
        return self._limit is not None and len(self.changes) >= self._limit

    def note(self, change: Change) -> None:
        """Note a change that has just been made."""
        gone = tuple(dict.fromkeys(name for name in change.removed if name))
        self.changes.append(replace(change, removed=gone))
