"""How to simplify a graph."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SimplifyOptions"]


@dataclass(frozen=True, slots=True)
class SimplifyOptions:
    """How to simplify.

    Args:
        profile: For whom: "portable" keeps the opset and standard operators only; "modern" also
            writes what opset 23 has. The others have the rules of "portable" today.
        skip: Names of rules not to use.
        budget_bytes: Bytes by which folded constants may make the file grow. None: not at all.
        limit: Number of changes to make at most, in the order of `Simplification.changes`.
        nonempty: Assume that no dimension is ever 0: then more computed reshapes become constant.
        pure: Custom operators, "domain::type", that give the same outputs for the same inputs and
            do nothing else: equal ones are computed once, unread ones removed. Those defined with
            Shipway say so themselves.
    """

    profile: str = "portable"
    skip: frozenset[str] = frozenset()
    budget_bytes: int | None = None
    limit: int | None = None
    nonempty: bool = False
    pure: frozenset[str] = frozenset()
