"""Which nodes of a program write into memory that other nodes read.

Most programs have none. `nn.ReLU(inplace=True)` makes one, and so does `x[:, 0] += 1`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Writing", "find_writing"]

_RETURNS_ITS_INPUT = frozenset({"aten::dropout", "aten::feature_dropout", "aten::alpha_dropout"})
"""Their schemas promise a new tensor; outside training they hand back the one they were given."""


@dataclass(frozen=True, slots=True)
class Writing:
    """What a program writes to in place.

    Args:
        written: For each node that writes: the nodes whose tensors it writes to.
        last: For each node whose memory is written to: position of the last node that does.
        group: For each node, the first node of those that share memory with it.
    """

    written: dict[Any, tuple[Any, ...]]
    last: dict[Any, int]
    group: dict[Any, Any]


def find_writing(nodes: list[Any]) -> Writing:
    """Follow the memory of each tensor through views, by what the operators' schemas say."""
    group: dict[Any, Any] = {}

    def root(node: Any) -> Any:
        while group.setdefault(node, node) is not node:
            node = group[node]
        return node

    written: dict[Any, tuple[Any, ...]] = {}
    for node in nodes:
        root(node)
        for source in _shared(node):
            group[root(node)] = root(source)
        if targets := tuple(_written(node)):
            written[node] = targets
    flat = {node: root(node) for node in nodes}
    ends: dict[Any, int] = {}
    for at, node in enumerate(nodes):
        for target in written.get(node, ()):
            ends[flat[target]] = at
    last = {node: ends[flat[node]] for node in nodes if flat[node] in ends}
    return Writing(written, last, flat)


def _shared(node: Any) -> Iterator[Any]:
    """Yield the nodes whose memory the result of this one may be."""
    if node.target is operator.getitem:
        yield node.args[0]
        return
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return
    passes = schema.name in _RETURNS_ITS_INPUT
    if passes or any(item.alias_info for item in schema.returns):
        for argument, value in _arguments(node, schema):
            if passes or argument.alias_info:
                yield from _nodes_of(value)


def _written(node: Any) -> Iterator[Any]:
    schema = getattr(node.target, "_schema", None)
    if schema is not None and schema.is_mutable:
        for argument, value in _arguments(node, schema):
            if argument.alias_info and argument.alias_info.is_write:
                yield from _nodes_of(value)


def _arguments(node: Any, schema: Any) -> Iterator[tuple[Any, Any]]:
    positional = [item for item in schema.arguments if not item.kwarg_only]
    yield from zip(positional, node.args, strict=False)  # defaults are left out of a node
    for item in schema.arguments:
        if item.name in node.kwargs:
            yield item, node.kwargs[item.name]


def _nodes_of(value: Any) -> Iterator[Any]:
    import torch

    items = value if isinstance(value, list | tuple) else (value,)
    yield from (item for item in items if isinstance(item, torch.fx.Node))
