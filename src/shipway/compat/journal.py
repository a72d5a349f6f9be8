"""What happened while a script ran, for the one line the runner closes with."""

from __future__ import annotations

__all__ = ["JOURNAL", "Journal"]


class Journal:
    """Which tools a script imported and what its drop-ins could not do, each once and in order."""

    def __init__(self) -> None:
        """Begin empty."""
        self._tools: dict[str, None] = {}
        self._unsupported: dict[str, None] = {}

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools."""
        return tuple(self._tools)

    def imported(self, tool: str) -> None:
        """Note that a script imported a tool."""
        self._tools[tool] = None

    def unsupported(self, call: str) -> None:
        """Note a call, or an argument of one, that was asked for and not served."""
        self._unsupported[call] = None

    def summary(self) -> str:
        """Return the tools and the calls in one line."""
        tools = " and ".join(self._tools) or "no tool Shipway stands in for"
        calls = ", ".join(self._unsupported) or "none"
        return f"Shipway's drop-in for {tools}; unsupported calls: {calls}"


JOURNAL = Journal()
"""Of this process: what a script imports and calls is a matter of the process, not of a graph."""
