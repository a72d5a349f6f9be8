"""Nodes of ONNX's default domain that are not ONNX's own, set aside so that nobody takes them for it.

TensorRT's plug-ins have no domain, and a model may bring a function named like a standard operator:
runtimes do not agree on whose body such a call means.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from shipway.graph.locating import all_nodes
from shipway.graph.standard import STANDARD_DOMAINS

__all__ = ["domain_of", "is_onnx_operator", "strangers_set_aside"]

_ASIDE = "shipway.aside"


@contextmanager
def strangers_set_aside(model: ir.Model) -> Iterator[None]:
    """While it lasts, no node in ONNX's default domain is anything but ONNX's operator."""
    own = {one.name for one in model.functions.values() if one.domain in STANDARD_DOMAINS}
    known: dict[str, bool] = {}
    strangers: dict[ir.Node, str] = {}
    for node in all_nodes(model):
        if node.domain not in STANDARD_DOMAINS:
            continue
        if node.op_type not in known:
            known[node.op_type] = node.op_type not in own and is_onnx_operator(node.op_type)
        if not known[node.op_type] or node.overload:
            strangers[node] = node.domain
    for node in strangers:
        node.domain = _ASIDE
    try:
        yield
    finally:
        for node, domain in strangers.items():
            node.domain = domain


def is_onnx_operator(op_type: str) -> bool:
    """Whether ONNX's default domain has an operator of this type, in any opset."""
    import onnx

    return bool(onnx.defs.has(op_type))


def domain_of(node: ir.Node) -> str:
    """Return the domain of a node, "" for ONNX's default one, also while it is set aside."""
    return "" if node.domain in STANDARD_DOMAINS or node.domain == _ASIDE else node.domain
