"""The difference of two graphs as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from shipway.graph.diffing.numbers import Gap

__all__ = [
    "Detail",
    "GraphDifference",
    "Kind",
    "Line",
    "ModelDifference",
    "NodeDifference",
    "Status",
    "Texts",
    "write_both",
]

Kind = Literal["computation", "name", "annotation"]
"""computation: what is computed or asked for; name: of a node or value inside; annotation: metadata,
doc strings, declared shapes of values inside, the producer, and where a constant is kept."""

Status = Literal["added", "removed", "changed", "renamed", "annotated"]
"""renamed: only its name or those of its outputs; annotated: only its name or annotations."""


Texts = tuple[str | None, str | None]
"""Before and after; None on the side that lacks it."""


def write_both(write: Callable[[Any], str], before: Any, after: Any) -> Texts:
    """Write what there is before and after."""
    return (
        None if before is None else write(before),
        None if after is None else write(after),
    )


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing that differs.

    Args:
        what: What it is, e.g. "axis", "input 0", "name".
        before: As text; None where it is new.
        after: As text; None where it is gone.
        kind: What it matters to.
        note: More of it.
        gap: How far numbers differ.
    """

    what: str
    before: str | None
    after: str | None
    kind: Kind = "computation"
    note: str = ""
    gap: Gap | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "what": self.what,
            "before": self.before,
            "after": self.after,
            "kind": self.kind,
            "note": self.note,
            "gap": None if self.gap is None else self.gap.to_json(),
        }

    def __str__(self) -> str:
        """Write it on one line."""
        note = self.note if self.gap is None else str(self.gap)
        before, after = self.before, self.after
        if before is None:
            text = f"{self.what}: only after, {after}"
        elif after is None:
            text = f"{self.what}: only before, {before}"
        elif note and before == after:
            return f"{self.what}: {before}, {note}"
        else:
            text = f"{self.what}: {before} -> {after}"
        return f"{text} ({note})" if note else text


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """A node that differs.

    Args:
        status: What happened to it.
        before: Name of the node before; None for an added one.
        after: Name of the node after; None for a removed one.
        op: Its operator, that before where it changed.
        details: What changed.
    """

    status: Status
    before: str | None
    after: str | None
    op: str
    details: tuple[Detail, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "status": self.status,
            "before": self.before,
            "after": self.after,
            "op": self.op,
            "details": [one.to_json() for one in self.details],
        }


@dataclass(frozen=True, slots=True)
class Line:
    """One node in a listing of both graphs.

    Args:
        sign: "-" removed, "+" added, "~" changed, " " equal, renamed or annotated.
        text: The node.
        details: What changed, for "~".
    """

    sign: Literal["-", "+", "~", " "]
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphDifference:
    """The difference of two graphs.

    Args:
        where: "" for the main graph, else e.g. "function own::F" or "If_3.then_branch".
        signature: Differences of inputs and outputs.
        nodes: Differences of nodes.
        weights: Differences of initializers and constants.
        equal: How many nodes are equal but for their names.
        lines: Every node of both, in the order they run.
    """

    where: str
    signature: tuple[Detail, ...]
    nodes: tuple[NodeDifference, ...]
    weights: tuple[Detail, ...]
    equal: int
    lines: tuple[Line, ...]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.signature and not self.nodes and not self.weights

    def computation(self) -> GraphDifference:
        """Return the difference without names of nodes and values inside, and annotations."""
        kept = [one for one in self.nodes if one.status in {"added", "removed", "changed"}]
        return replace(
            self,
            signature=_computed(self.signature),
            nodes=tuple(replace(one, details=_computed(one.details)) for one in kept),
            weights=_computed(self.weights),
            equal=self.equal + len(self.nodes) - len(kept),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without the lines."""
        return {
            "where": self.where,
            "signature": [one.to_json() for one in self.signature],
            "nodes": [one.to_json() for one in self.nodes],
            "weights": [one.to_json() for one in self.weights],
            "equal": self.equal,
        }


@dataclass(frozen=True, slots=True)
class ModelDifference:
    """The difference of two models.

    Args:
        model: Differences of opsets, functions, metadata, and what else belongs to no graph.
        graphs: Every graph that both have: the main graph, functions, sub-graphs.
        operators: For each operator that is not as often in both: how often before and after.
    """

    model: tuple[Detail, ...]
    graphs: tuple[GraphDifference, ...]
    operators: dict[str, tuple[int, int]]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs but the order of nodes and initializers."""
        return not self.model and all(one.is_equal for one in self.graphs)

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes there are of each status, and how many are equal."""
        found: Counter[str] = Counter(node.status for graph in self.graphs for node in graph.nodes)
        return {"equal": sum(graph.equal for graph in self.graphs), **found}

    def computation(self) -> ModelDifference:
        """Return the difference without names of nodes and values inside, and annotations."""
        graphs = tuple(one.computation() for one in self.graphs)
        return ModelDifference(_computed(self.model), graphs, self.operators)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "equal": self.is_equal,
            "nodes": self.counts,
            "operators": {name: list(counts) for name, counts in self.operators.items()},
            "model": [one.to_json() for one in self.model],
            "graphs": [one.to_json() for one in self.graphs if not one.is_equal],
        }


def _computed(details: tuple[Detail, ...]) -> tuple[Detail, ...]:
    return tuple(one for one in details if one.kind == "computation")
