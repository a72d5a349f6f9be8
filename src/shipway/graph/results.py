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
        into: Values the node computed: what else is no more has become part of them.
        function: The function it was made in, "domain::name"; "" for the main graph. Names of values
            are those of its body, which may be names of other values elsewhere.
    """

    rule: str
    kind: Kind
    node: str
    op: str
    removed: tuple[str, ...]
    alias: Mapping[str, str]
    into: tuple[str, ...] = ()
    function: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "rule": self.rule,
            "kind": self.kind,
            "node": self.node,
            "op": self.op,
            "removed": list(self.removed),
            "alias": dict(self.alias),
            "into": list(self.into),
            "function": self.function,
        }


@dataclass(frozen=True, slots=True)
class Simplification:
    """Everything a simplification did.

    Args:
        profile: What it was for.
        changes: In the order they were made.
        nodes_before: Nodes of the model, those of sub-graphs and functions too.
        nodes_after: The same afterwards.
        dropped: Initializers that nobody reads any more.
        assumes: What must hold beyond the rules' own conditions.
    """

    profile: str
    changes: tuple[Change, ...]
    nodes_before: int
    nodes_after: int
    dropped: tuple[str, ...] = ()
    assumes: tuple[str, ...] = ()

    @property
    def rules(self) -> dict[str, int]:
        """How often each rule was applied, most often first."""
        return dict(Counter(change.rule for change in self.changes).most_common())

    @property
    def aliases(self) -> dict[str, str]:
        """For each name that is no more and whose numbers survive: the surviving name.

        Values outside functions, as name maps list them.
        """
        final: dict[str, str] = {}
        for change in self._changes_outside_functions():
            for old, new in change.alias.items():
                final[old] = final.get(new, new)
        dropped = set(self.dropped)
        return {old: new for old, new in final.items() if new not in dropped}

    @property
    def fates(self) -> dict[str, tuple[str, ...]]:
        """For each name that is no more and whose numbers are gone: surviving names they are in."""
        alias = self.aliases
        found: dict[str, tuple[str, ...]] = {}
        for change in self._changes_outside_functions():
            inside: list[str] = []
            for name in change.into:
                inside += found.get(name, (alias.get(name, name),))
            for name in change.removed:
                if name not in alias:
                    found[name] = tuple(dict.fromkeys(inside))
        return found

    def _changes_outside_functions(self) -> list[Change]:
        return [change for change in reversed(self.changes) if not change.function]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "profile": self.profile,
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "dropped": list(self.dropped),
            "assumes": list(self.assumes),
            "rules": self.rules,
            "changes": [change.to_json() for change in self.changes],
        }
