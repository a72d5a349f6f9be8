"""Domains of operators: moved to another one, and the two names of the default one unified."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.locating import all_nodes
from shipway.graph.schemas import find_schema

__all__ = ["set_domain", "unify_domain"]

_DEFAULT, _DEFAULT_LONG = "", "ai.onnx"


def set_domain(
    model: ir.Model, domain: str, version: int | None = None, *, only: Collection[str] = ()
) -> int:
    """Move custom operators to another domain, e.g. the one a converter's plugin is registered for.

    Args:
        model: The model.
        domain: The new domain; "" or ai.onnx is the default one.
        version: Version of its opset to import; if not given the one it has, or 1.
        only: Operator types to move; every operator that ONNX does not define if empty.

    Returns:
        How many nodes were moved.

    Raises:
        UsageError: No node has one of the types, or the version differs from that of ONNX's own
            operators in the model.
        ModelError: The name has a meaning of its own in the new domain.
    """
    domain = _DEFAULT if domain == _DEFAULT_LONG else domain
    _check_version(model, domain, version)
    nodes = [node for node in all_nodes(model) if _is_meant(node, only)]
    _check_found(nodes, only)
    taken = {(one.domain, one.name) for one in model.functions.values()}
    for node in nodes:
        if node.domain != domain and (domain, node.op_type) in taken:
            raise ModelError(f"{domain}::{node.op_type} is a function of the model already.")
        if find_schema(node.op_type, domain, None) is not None and node.domain != domain:
            raise ModelError(
                f"{domain or _DEFAULT_LONG}::{node.op_type} is an operator of ONNX itself, so "
                f"'{node.name}' ({node.domain}::{node.op_type}) would mean something else."
            )
    moved = [node for node in nodes if node.domain != domain]
    _move_functions(model, {(node.domain, node.op_type) for node in moved}, domain)
    for node in moved:
        node.domain = domain
    _set_imports(model, domain, version)
    return len(moved)


def _is_meant(node: ir.Node, only: Collection[str]) -> bool:
    if only:
        return node.op_type in only
    return find_schema(node.op_type, node.domain, None) is None


def _check_version(model: ir.Model, domain: str, version: int | None) -> None:
    have = model.opset_imports.get(domain)
    if domain == _DEFAULT and version is not None and have not in {None, version}:
        raise UsageError(
            f"The model imports opset {have} of the default domain, not {version}.",
            hint=f"shipway graph edit MODEL convert-opset --version {version} --output OUT",
        )


def _check_found(nodes: list[ir.Node], only: Collection[str]) -> None:
    missing = sorted(set(only) - {node.op_type for node in nodes})
    if missing:
        raise UsageError(
            f"No node of the model is a {' or a '.join(missing)}.",
            hint="Look its operators up: shipway graph inspect MODEL.",
        )


def _move_functions(model: ir.Model, kinds: set[tuple[str, str]], domain: str) -> None:
    for key, function in list(model.functions.items()):
        if (function.domain, function.name) in kinds:
            del model.functions[key]
            function.domain = domain
            model.functions[function.identifier()] = function


def _set_imports(model: ir.Model, domain: str, version: int | None) -> None:
    """Import the new domain, and drop those that nothing is from any more."""
    local = {one.domain for one in model.functions.values()}
    for graph in (model.graph, *(one.graph for one in model.functions.values())):
        used = {node.domain for node in graph.all_nodes()}
        imports = graph.opset_imports
        if domain in used:
            imports[domain] = version or imports.get(domain, 1)
        for name in list(imports):
            if name not in used | local | {_DEFAULT}:
                del imports[name]


def unify_domain(model: ir.Model) -> int:
    """Import the default domain in one way, as "": some exporters and scripts write "ai.onnx" too.

    Nodes need no change: onnx_ir reads both as one.

    Returns:
        How many imports were changed, those of functions too.

    Raises:
        ModelError: The two are imported in different versions.
    """
    count = 0
    for graph in (model.graph, *(one.graph for one in model.functions.values())):
        imports = graph.opset_imports
        if _DEFAULT_LONG not in imports:
            continue
        version = imports[_DEFAULT_LONG]
        if imports.get(_DEFAULT, version) != version:
            raise ModelError(
                f"The model imports opset {imports[_DEFAULT]} as '' and {version} as 'ai.onnx', "
                "which are one domain.",
                hint="Remove the wrong one first: model.opset_imports.pop('ai.onnx').",
            )
        del imports[_DEFAULT_LONG]
        imports[_DEFAULT] = version
        count += 1
    return count
