"""Stands in for msit's auto_optimizer (surgeon): `OnnxGraph` and its nodes."""

from __future__ import annotations

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
