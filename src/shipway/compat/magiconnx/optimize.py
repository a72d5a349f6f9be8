"""MagicONNX's optimizers, which are not stood in for."""

from __future__ import annotations

from typing import Any

from shipway.compat.faults import Unsupported

__all__ = ["OptimizerManager"]


class OptimizerManager:
    """Refuses, and says what does the same.

    Args:
        graph: The graph.
        optimizers: Names of optimizers.
        kwargs: What else MagicONNX takes.
    """

    def __init__(self, graph: Any = None, optimizers: Any = (), **kwargs: Any) -> None:  # noqa: ARG002 -- MagicONNX's form
        """Refuse."""
        names = ", ".join(map(str, optimizers or ()))
        raise Unsupported(
            f"MagicONNX OptimizerManager({names})",
            hint="shipway graph edit MODEL cast-indices | merge-slices | fuse-attention; see --help.",
        )
