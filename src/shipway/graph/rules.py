"""What a simplification rule is, and what it proposes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

if TYPE_CHECKING:
    from shipway.graph.view import View

__all__ = ["FINITE", "NONEMPTY", "Kind", "Rewrite", "Rule"]

Kind = Literal["exact", "reassociating", "assumption"]
"""exact: every bit of every output stays. reassociating: the same mathematics, rounded elsewhere.
assumption: the same as long as what the rule says holds."""

NONEMPTY = "no dimension is 0"
FINITE = "no input is NaN or infinite"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a rule proposes for one node. Whoever applies it keeps names, metadata and journal.

    Args:
        values: The value to read instead of each output, in order; None for one nobody reads.
            Empty: the node stays.
        nodes: New nodes that compute them, in order; inserted before the node.
        operands: Inputs to be exchanged, by index, where the node stays.
    """

    values: tuple[ir.Value | None, ...] = ()
    nodes: tuple[ir.Node, ...] = ()
    operands: Mapping[int, ir.Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to make a graph simpler.

    Args:
        name: The name of its file.
        kind: What stays equal.
        summary: What it does, as the documentation lists it.
        op_types: Types of the standard operators it looks at.
        propose: Returns what to do with a node, or None. It changes nothing itself.
        assumes: What must hold, where `kind` is "assumption".
        opset: Oldest opset of the standard operators it writes.
    """

    name: str
    kind: Kind
    summary: str
    op_types: tuple[str, ...]
    propose: Callable[[ir.Node, View], Rewrite | None]
    assumes: tuple[str, ...] = ()
    opset: int = 1
