"""What a simplification did, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shipway.graph.rules import Kind

__all__ = ["Change", "Simplification"]


@dataclass(frozen=True, slots=True)
class Change:
    """One application of one rule.

    Args:
        rule: Its name.
        kind: What stays equal.
        node: Name of the node that was rewritten.
        op: Its operator.
        removed: Names of values that are no more.
        alias: For each name that is no more and whose numbers survive: the name that has them.
    """

    rule: str
    kind: Kind
    node: str
    op: str
    removed: tuple[str, ...]
    alias: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "rule": self.rule,
            "kind": self.kind,
            "node": self.node,
            "op": self.op,
            "removed": list(self.removed),
            "alias": dict(self.alias),
        }


@dataclass(frozen=True, slots=True)
class Simplification:
    """Everything a simplification did.

    Args:
        profile: What it was for.
        changes: In the order they were made.
        nodes_before: Nodes of the model, those of sub-graphs and functions too.
        nodes_after: The same afterwards.
    """

    profile: str
    changes: tuple[Change, ...]
    nodes_before: int
    nodes_after: int

    @property
    def rules(self) -> dict[str, int]:
        """How often each rule was applied, most often first."""
        return dict(Counter(change.rule for change in self.changes).most_common())

    @property
    def aliases(self) -> dict[str, str]:
        """For each name that is no more and whose numbers survive: the surviving name."""
        final: dict[str, str] = {}
        for change in reversed(self.changes):
            for old, new in change.alias.items():
                final[old] = final.get(new, new)
        return final

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "profile": self.profile,
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "rules": self.rules,
            "changes": [change.to_json() for change in self.changes],
        }
