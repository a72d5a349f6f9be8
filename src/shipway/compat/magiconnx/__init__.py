"""Stands in for MagicONNX: `OnnxGraph` and its nodes, of both branches."""

from __future__ import annotations

from shipway.compat.magiconnx.graph import BaseGraph, OnnxGraph
from shipway.compat.magiconnx.node import (
    INITIALIZER,
    PLACEHOLDER,
    BaseNode,
    Initializer,
    Node,
    PlaceHolder,
)

OnnxNode = Node

__all__ = [
    "INITIALIZER",
    "PLACEHOLDER",
    "BaseGraph",
    "BaseNode",
    "Initializer",
    "Node",
    "OnnxGraph",
    "OnnxNode",
    "PlaceHolder",
]
