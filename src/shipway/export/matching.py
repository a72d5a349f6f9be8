"""Match the tensors of a program with those of the form it was translated from."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shipway.export.fingerprints import Fingerprint, fingerprint_program
from shipway.export.name_map import TensorEntry
from shipway.export.program import tensor_outputs, user_inputs
from shipway.export.refusals import name_symbols
from shipway.source.locations import trace_location
from shipway.tensors import Dim

__all__ = ["Matches", "describe_tensors", "match_nodes"]


def describe_tensors(program: Any, symbols: Mapping[str, str]) -> list[TensorEntry]:
    """Return an entry for every tensor of a program, not matched with anything yet.

    Nodes that give a tuple have no entry; what is taken out of the tuple does.
    """
    return list(_describe(program.graph_module, _kinds(program), symbols, ""))


def _describe(
    module: Any, kinds: Mapping[str, str], symbols: Mapping[str, str], scope: str
) -> Iterator[TensorEntry]:
    import torch

    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op in {"placeholder", "call_function"} and isinstance(value, torch.Tensor):
            yield _entry(node, value, kinds, symbols, scope)
        inner = getattr(module, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(inner, torch.fx.GraphModule):
            yield from _describe(inner, {}, symbols, f"{scope}{node.target}.")


def _entry(
    node: Any, value: Any, kinds: Mapping[str, str], symbols: Mapping[str, str], scope: str
) -> TensorEntry:
    module, module_class = _module_of(node)
    where = trace_location(node.meta.get("stack_trace") or "")
    shape: tuple[Dim, ...] = tuple(
        size if isinstance(size, int) else name_symbols(str(size), symbols) for size in value.shape
    )
    return TensorEntry(
        fx=scope + node.name,
        op=kinds.get(node.name, "input") if node.op == "placeholder" else _operator(node),
        dtype=str(value.dtype).removeprefix("torch."),
        shape=shape,
        status="subgraph" if scope else "unmatched",
        module=module,
        module_class=module_class,
        source="" if where is None else str(where),
        code="" if where is None else where.code,
    )


def _operator(node: Any) -> str:
    if node.target is operator.getitem:
        return f"{node.args[0].target}[{node.args[1]}]"
    return str(node.target)


def _kinds(program: Any) -> dict[str, str]:
    words = {
        "USER_INPUT": "input",
        "PARAMETER": "parameter",
        "BUFFER": "buffer",
        "CONSTANT_TENSOR": "constant",
    }
    return {
        spec.arg.name: words.get(spec.kind.name, spec.kind.name.lower())
        for spec in program.graph_signature.input_specs
    }


def _module_of(node: Any) -> tuple[str, str]:
    """Return path and class of the innermost module around a node; ("", "") where torch knows none."""
    stack = [
        item for item in (node.meta.get("nn_module_stack") or {}).values() if item[0] != item[1]
    ]
    if not stack:
        return "", ""
    path, module_class = stack[-1]
    return str(path), str(getattr(module_class, "__qualname__", module_class))


@dataclass(frozen=True, slots=True)
class Matches:
    """Which value of the untouched ONNX model holds each tensor of the program.

    Args:
        values: ONNX value by program node.
        aliases: Program node with the same values, for nodes that decomposing dropped.
        confirmed: Program nodes whose match was checked on numbers.
        parents: Program node by decomposed node.
        seen: What each ONNX value looked like on the example.
        unread: Program nodes whose result nothing reads.
    """

    values: Mapping[str, str]
    aliases: Mapping[str, str]
    confirmed: frozenset[str]
    parents: Mapping[str, str]
    seen: Mapping[str, Fingerprint]
    unread: frozenset[str]


def match_nodes(program: Any, decomposed: Any, feeds: Sequence[Any]) -> Matches:
    """Match the tensors of a program with the values of the ONNX model before folding.

    torch records which node each decomposed node stems from. Of several, the last one that has
    the right shape and dtype, and the right numbers on the example, is the result of the node.
    Views of a tensor that is changed in place are made anew where they are read, and credited to
    the reader; those are found by their numbers alone, if these are distinctive enough.
    The exporter names values after decomposed nodes, and weights after their place in the module.

    Args:
        program: The program that is saved.
        decomposed: The one that was translated.
        feeds: One torch tensor an input.
    """
    golden, actual = fingerprint_program(program, feeds), fingerprint_program(decomposed, feeds)
    parents = _parents(program, decomposed)
    families = _families(decomposed, parents)
    nodes = _match_ends(program, decomposed)
    confirmed = {name for name in nodes if _agree(golden.get(name), actual.get(nodes[name]))}
    aliases: dict[str, str] = {}
    seen_nodes = [node for node in _tensor_nodes(decomposed) if node.name in actual]
    for node in (item for item in _tensor_nodes(program) if item.name not in nodes):
        mine = golden.get(node.name)
        result = _result_of(node, _candidates(node, families), mine, actual)
        if result is None and mine is not None and mine.is_distinctive:
            result = _result_of(node, seen_nodes, mine, actual)
        if result is not None:
            nodes[node.name] = result
            confirmed |= {node.name} if _agree(mine, actual.get(result)) else set()
            continue
        sources = (item.name for item in node.all_input_nodes)
        same = (name for name in sources if _agree(mine, golden.get(name)))
        if (alias := next(same, None)) is not None:
            aliases[node.name] = alias
    weights = {spec.arg.name: spec.target for spec in decomposed.graph_signature.input_specs}
    names = {name: weights.get(name) or name for name in (*nodes.values(), *actual)}
    return Matches(
        values={node: names[name] for node, name in nodes.items()},
        aliases=aliases,
        confirmed=frozenset(confirmed),
        parents=parents,
        seen={names[name]: fingerprint for name, fingerprint in actual.items()},
        unread=frozenset(node.name for node in _tensor_nodes(program) if not node.users),
    )


def _result_of(
    node: Any,
    candidates: Sequence[Any],
    mine: Fingerprint | None,
    actual: Mapping[str, Fingerprint],
) -> str | None:
    for candidate in candidates:
        theirs = actual.get(candidate.name)
        unseen = mine is None or theirs is None
        if _same_kind(node, candidate) and (unseen or _agree(mine, theirs)):
            return str(candidate.name)
    return None


def _agree(golden: Fingerprint | None, actual: Fingerprint | None) -> bool:
    return golden is not None and actual is not None and golden.agrees(actual)


def _tensor_nodes(program: Any) -> list[Any]:
    import torch

    return [
        node
        for node in program.graph.nodes
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor)
    ]


def _parents(program: Any, decomposed: Any) -> dict[str, str]:
    """Return the node of the program that each decomposed node stems from."""
    graph_id = id(program.graph)
    nodes = (node for node in decomposed.graph.nodes if node.op == "call_function")
    return {node.name: parent for node in nodes if (parent := _parent(node, graph_id))}


def _families(decomposed: Any, parents: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return the decomposed tensor nodes that stem from each node of the program, in order."""
    families: dict[str, list[Any]] = {}
    for node in _tensor_nodes(decomposed):
        if node.name in parents:
            families.setdefault(parents[node.name], []).append(node)
    return families


def _parent(node: Any, graph_id: int) -> str:
    """Follow torch's record of where a node came from back to a graph; its oldest entry else."""
    queue, oldest = list(node.meta.get("from_node") or ()), ""
    while queue:
        source = queue.pop(0)
        oldest = str(source.name)
        if source.graph_id == graph_id:
            return oldest
        queue.extend(source.from_node or ())
    return oldest


def _match_ends(program: Any, decomposed: Any) -> dict[str, str]:
    """Match what the signatures match: weights by their place in the module, the rest by order."""
    mine, theirs = (item.graph_signature.input_specs for item in (program, decomposed))
    by_target = {spec.target: spec.arg.name for spec in theirs if spec.target}
    matches = {spec.arg.name: by_target[spec.target] for spec in mine if spec.target in by_target}
    inputs = zip(user_inputs(program), user_inputs(decomposed), strict=True)
    outputs = zip(tensor_outputs(program), tensor_outputs(decomposed), strict=True)
    matches |= {golden.name: actual.name for golden, actual in inputs}
    # An output may be an input, which is matched already, and exactly.
    return dict(outputs) | matches


def _candidates(node: Any, families: Mapping[str, list[Any]]) -> list[Any]:
    """Return decomposed nodes that may be this one's result, the likeliest first."""
    own = families.get(node.name, [])
    if node.target is not operator.getitem:
        return own[::-1]
    parent, index = node.args
    family = own + families.get(parent.name, [])
    exact = [item for item in family if item.target is operator.getitem and item.args[1] == index]
    return exact + family[::-1]


def _same_kind(golden: Any, actual: Any) -> bool:
    mine, theirs = golden.meta["val"], actual.meta["val"]
    return (
        mine.dtype == theirs.dtype
        and mine.dim() == theirs.dim()
        and all(
            left == right
            for left, right in zip(mine.shape, theirs.shape, strict=True)
            if isinstance(left, int) and isinstance(right, int)
        )
    )
