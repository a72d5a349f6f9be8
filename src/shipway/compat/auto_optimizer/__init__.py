"""Stands in for msit's auto_optimizer (surgeon): `OnnxGraph` and its nodes."""

from __future__ import annotations

from typing import Any

from shipway.compat.auto_optimizer.graph import BaseGraph, OnnxGraph
from shipway.compat.auto_optimizer.node import (
    BaseNode,
    Initializer,
    Node,
    OnnxInitializer,
    OnnxNode,
    OnnxPlaceHolder,
    PlaceHolder,
)
from shipway.compat.faults import UnsupportedImport

__all__ = [
    "BaseGraph",
    "BaseNode",
    "Initializer",
    "Node",
    "OnnxGraph",
    "OnnxInitializer",
    "OnnxNode",
    "OnnxPlaceHolder",
    "PlaceHolder",
]


def __getattr__(name: str) -> Any:
    """Refuse the rest of auto_optimizer by its name."""
    if name.startswith("_"):
        raise AttributeError(name)
    raise UnsupportedImport(
        f"auto_optimizer.{name}",
        hint="The knowledges of surgeon are edits here: shipway graph edit --help.",
    )
