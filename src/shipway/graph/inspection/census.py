"""Counts what a model is made of: operators, domains, functions, sub-graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import onnx_ir as ir

from shipway.graph.inspection.results import DomainUse, FunctionUse, OperatorUse, SubgraphUse
from shipway.graph.inspection.tally import OperatorKey, Share, size_rank
from shipway.graph.inspection.weights import weight_bytes_by_operator
from shipway.graph.locating import all_nodes
from shipway.graph.schemas import find_schema
from shipway.graph.standard import STANDARD_DOMAINS

__all__ = ["Census"]

_DEFAULT = "ai.onnx"


class Census:
    """How often each operator occurs, and where.

    Args:
        model: The model, as in its file.
    """

    def __init__(self, model: ir.Model) -> None:
        """Count."""
        self._model = model
        self.nodes = Counter(map(_key, all_nodes(model)))
        self.in_functions = Counter(
            _key(node) for function in model.functions.values() for node in function.all_nodes()
        )
        self.in_subgraphs = Counter(
            _key(node) for graph in list(model.graphs())[1:] for node in graph
        )
        self.weight_bytes = weight_bytes_by_operator(model)
        self.functions = tuple(self._functions())
        self.domains = tuple(self._domains())
        self.subgraphs = tuple(_subgraphs(model.graph, 1))

    def operators(self, shares: Mapping[OperatorKey, Share]) -> tuple[OperatorUse, ...]:
        """Return the operators with their share of the arithmetic, the largest first."""
        found = [self._operator(key, shares.get(key, Share())) for key in {**self.nodes, **shares}]
        return tuple(sorted(found, key=lambda one: (-size_rank(one.flops), -one.nodes, one.type)))

    def _operator(self, key: OperatorKey, share: Share) -> OperatorUse:
        return OperatorUse(
            key[0],
            key[1],
            self.nodes[key],
            self.in_subgraphs[key],
            self.in_functions[key],
            self.weight_bytes.get(key, 0),
            share.nodes,
            share.counted,
            share.macs,
            share.flops,
        )

    def _functions(self) -> Iterator[FunctionUse]:
        for function in self._model.functions.values():
            overload = f":{function.overload}" if function.overload else ""
            name = f"{function.domain}::{function.name}{overload}"
            calls = sum(
                node.op_identifier() == function.identifier() for node in all_nodes(self._model)
            )
            yield FunctionUse(name, sum(1 for _ in function.all_nodes()), calls)

    def _domains(self) -> Iterator[DomainUse]:
        imports = self._imports()
        used = Counter[str]()
        for (_, domain), count in self.nodes.items():
            used[_long(domain)] += count
        for domain in sorted({*imports, *used}, key=lambda name: (name != _DEFAULT, name)):
            custom = sorted(
                op_type
                for op_type, own in self.nodes
                if _long(own) == domain and self._is_custom(op_type, own)
            )
            kind = "onnx" if _is_onnx(domain) else "custom" if custom else "functions"
            if kind == "functions" and not used[domain]:
                kind = "custom"
            yield DomainUse(domain, imports.get(domain), used[domain], kind, tuple(custom))

    def _imports(self) -> dict[str, int]:
        found: dict[str, int] = {}
        functions = (one.opset_imports for one in self._model.functions.values())
        for imports in (self._model.opset_imports, *functions):
            for domain, version in imports.items():
                found.setdefault(_long(domain), version)
        return found

    def _is_custom(self, op_type: str, domain: str) -> bool:
        is_function = any(
            (one.domain, one.name) == (domain, op_type) for one in self._model.functions.values()
        )
        return not is_function and find_schema(op_type, domain, None) is None


def _key(node: ir.Node) -> OperatorKey:
    return node.op_type, node.domain


def _long(domain: str) -> str:
    return _DEFAULT if domain in STANDARD_DOMAINS else domain


def _is_onnx(domain: str) -> bool:
    return domain == _DEFAULT or domain.startswith(f"{_DEFAULT}.")


def _subgraphs(graph: ir.Graph, depth: int) -> Iterator[SubgraphUse]:
    for node in graph:
        for attribute in node.attributes.values():
            for inner in _graphs_of(attribute):
                owner = node.name or next((one.name for one in node.outputs if one.name), "")
                yield SubgraphUse(owner or "", node.op_type, attribute.name, len(inner), depth)
                yield from _subgraphs(inner, depth + 1)


def _graphs_of(attribute: ir.Attr) -> Iterator[ir.Graph]:
    if attribute.is_ref():
        return
    if attribute.type is ir.AttributeType.GRAPH:
        yield attribute.as_graph()
    elif attribute.type is ir.AttributeType.GRAPHS:
        yield from attribute.as_graphs()
