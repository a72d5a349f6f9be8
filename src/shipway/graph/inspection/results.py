"""What an inspection found, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shipway.graph.facts.dims import Dim
from shipway.graph.inspection.ports import Port
from shipway.graph.inspection.tally import Gap
from shipway.graph.inspection.weights import Weights

__all__ = [
    "Counting",
    "DomainUse",
    "FunctionUse",
    "Inspection",
    "OperatorUse",
    "SubgraphUse",
]


@dataclass(frozen=True, slots=True)
class DomainUse:
    """A domain of operators, and its opset.

    Args:
        domain: Its name; "ai.onnx" for the default one.
        version: Of the opset the model imports; None where it imports none.
        nodes: Nodes with an operator of the domain.
        kind: "onnx", "functions" for one whose operators the model defines itself, else "custom".
        custom: Operators that neither ONNX nor the model defines, in every domain.
    """

    domain: str
    version: int | None
    nodes: int
    kind: str
    custom: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "domain": self.domain,
            "version": self.version,
            "nodes": self.nodes,
            "kind": self.kind,
            "custom": list(self.custom),
        }


@dataclass(frozen=True, slots=True)
class OperatorUse:
    """An operator, and what its nodes are of the whole.

    Args:
        type: The operator.
        domain: Its domain; "" for the default one.
        nodes: How many nodes have it.
        in_subgraphs: Those of them inside If, Loop, Scan and the like.
        in_functions: Those of them inside functions.
        weight_bytes: Weights its nodes read; one that several operators read counts for each.
        executed: Nodes with every call of a function opened: what `counted` is of.
        counted: Nodes whose arithmetic is known.
        macs: Multiply-adds of those.
        flops: FLOPs of those, two of each multiply-add among them.
    """

    type: str
    domain: str
    nodes: int
    in_subgraphs: int
    in_functions: int
    weight_bytes: int
    executed: int
    counted: int
    macs: Dim
    flops: Dim

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "type": self.type,
            "domain": self.domain,
            "nodes": self.nodes,
            "in_subgraphs": self.in_subgraphs,
            "in_functions": self.in_functions,
            "weight_bytes": self.weight_bytes,
            "executed": self.executed,
            "counted": self.counted,
            **_amount("macs", self.macs),
            **_amount("flops", self.flops),
        }


def _amount(name: str, dim: Dim) -> dict[str, Any]:
    """Return a number that may depend on dynamic dimensions: then it is a formula alone."""
    return {name: dim if isinstance(dim, int) else None, f"{name}_formula": repr(dim)}


@dataclass(frozen=True, slots=True)
class Counting:
    """The arithmetic of the model.

    Args:
        sizes: Sizes of dynamic dimensions that were given.
        macs: Multiply-adds.
        flops: FLOPs, two of each multiply-add among them.
        nodes: Nodes, every call of a function opened.
        counted: Those whose arithmetic is known.
        gaps: Why the others' is not.
        notes: What was assumed.
    """

    sizes: Mapping[str, int]
    macs: Dim
    flops: Dim
    nodes: int
    counted: int
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "sizes": dict(self.sizes),
            **_amount("macs", self.macs),
            **_amount("flops", self.flops),
            "nodes": self.nodes,
            "counted": self.counted,
            "coverage": self.counted / self.nodes if self.nodes else 1.0,
            "gaps": [gap.to_json() for gap in self.gaps],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class FunctionUse:
    """A function of the model.

    Args:
        name: With its domain, and its overload where it has one.
        nodes: Nodes of its body.
        calls: Nodes that call it.
    """

    name: str
    nodes: int
    calls: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, "nodes": self.nodes, "calls": self.calls}


@dataclass(frozen=True, slots=True)
class SubgraphUse:
    """A graph inside a node.

    Args:
        owner: Name of the node.
        type: Its operator.
        attribute: The attribute that holds the graph.
        nodes: Nodes of the graph itself.
        depth: How many graphs are around it.
    """

    owner: str
    type: str
    attribute: str
    nodes: int
    depth: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "owner": self.owner,
            "type": self.type,
            "attribute": self.attribute,
            "nodes": self.nodes,
            "depth": self.depth,
        }


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything found of a model.

    Args:
        header: Producer, versions, names and doc string, as in the file; empty ones left out.
        metadata: The model's own entries.
        node_metadata: How many nodes have each entry that an exporter left on nodes.
        problems: What makes the model invalid, or keeps it from being read whole.
        domains: Opsets.
        inputs: Those a caller gives, and those with a default.
        outputs: In order.
        dims: Dynamic dimensions of the inputs, with where each stands, e.g. "image axis 0".
        operators: The most FLOPs first, then the most nodes.
        weights: Weights.
        functions: Functions of the model.
        subgraphs: Graphs inside nodes.
        counting: The arithmetic; None where it could not be counted at all.
    """

    header: Mapping[str, Any]
    metadata: Mapping[str, str]
    node_metadata: Mapping[str, int]
    problems: tuple[str, ...]
    domains: tuple[DomainUse, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    dims: Mapping[str, tuple[str, ...]]
    operators: tuple[OperatorUse, ...]
    weights: Weights
    functions: tuple[FunctionUse, ...]
    subgraphs: tuple[SubgraphUse, ...]
    counting: Counting | None

    @property
    def nodes(self) -> int:
        """Nodes of the file, those of sub-graphs and functions too."""
        return sum(one.nodes for one in self.operators)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "header": dict(self.header),
            "metadata": dict(self.metadata),
            "node_metadata": dict(self.node_metadata),
            "problems": list(self.problems),
            "domains": [one.to_json() for one in self.domains],
            "inputs": [one.to_json() for one in self.inputs],
            "outputs": [one.to_json() for one in self.outputs],
            "dims": {name: list(places) for name, places in self.dims.items()},
            "nodes": self.nodes,
            "operators": [one.to_json() for one in self.operators],
            "weights": self.weights.to_json(),
            "functions": [one.to_json() for one in self.functions],
            "subgraphs": [one.to_json() for one in self.subgraphs],
            "counting": None if self.counting is None else self.counting.to_json(),
        }
