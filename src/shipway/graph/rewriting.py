"""Replaces patterns of nodes through onnxscript's rewriter, from functions or from ONNX's own text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError, UsageError
from shipway.graph.building import drop_unused, put_in_place
from shipway.graph.locating import all_graphs, all_nodes
from shipway.graph.naming import Names
from shipway.graph.ordering import sort_graph
from shipway.graph.rewriting_text import read_pattern, read_replacement
from shipway.graph.schemas import check_node

__all__ = ["rewrite"]

_DOMAIN = "shipway.rewrite"


def rewrite(
    model: ir.Model,
    pattern: Callable[..., Any] | str,
    replacement: Callable[..., Any] | str,
    *,
    condition: Callable[..., bool] | None = None,
    commute: bool = False,
) -> int:
    """Replace every occurrence of a pattern, inside If, Loop and functions too.

    A node that something outside the pattern reads is not taken away. The nodes that come in get
    the metadata of those that go; values keep their names.

    Args:
        model: The model.
        pattern: A function of `op` and variables, or nodes in ONNX's text form, separated by ";".
            In text, a node matches only with exactly the attributes written; the outputs of the
            last node are what is replaced.
        replacement: The same, with the same variables.
        condition: Gets the variables by name (values; attributes as `onnx_ir.Attr`) and says
            whether to replace.
        commute: Match Add, Mul and the like with swapped inputs too.

    Returns:
        How many occurrences were replaced.

    Raises:
        UsageError: The pattern or replacement cannot be read, or makes an invalid node.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text(
        ...     '<ir_version: 8, opset_import: ["": 17]> g (float[2,3] x, float[3,4] w, float[4] b)'
        ...     " => (float[2,4] y) {m = MatMul(x, w) y = Add(m, b)}"
        ... )
        >>> rewrite(model, "c = MatMul(a, b); d = Add(c, bias)", "d = Gemm(a, b, bias)")
        1
        >>> [node.op_type for node in model.graph]
        ['Gemm']
    """
    from onnxscript.rewriter import RewriteRule, RewriteRuleSet

    before = _signature(model)
    old = set(all_nodes(model))
    make = read_pattern(pattern) if isinstance(pattern, str) else pattern
    build = read_replacement(replacement) if isinstance(replacement, str) else replacement
    try:
        rule = RewriteRule(make, _guarded(build), _only_old(condition, old))
        count = RewriteRuleSet([rule], commute=commute).apply_to_model(model)
    except (ValueError, TypeError) as error:
        raise UsageError(f"The pattern or its replacement cannot be used: {error}") from error
    _close_gaps(model)
    sort_graph(model)
    for node in all_nodes(model):
        if node not in old:
            check_node(node, model.opset_imports.get(node.domain))
    if _signature(model) != before:
        raise ModelError("The rewrite changed the names of the model's inputs or outputs.")
    return int(count)


def _signature(model: ir.Model) -> list[str | None]:
    return [value.name for value in (*model.graph.inputs, *model.graph.outputs)]


def _only_old(condition: Callable[..., bool] | None, old: set[ir.Node]) -> Callable[..., bool]:
    """Match what ends in a node of the user's.

    What a replacement made may hold the pattern again, and the rewriter would go on for ever.
    """

    def check(context: Any, **variables: Any) -> bool:
        return context.root in old and (condition is None or bool(condition(**variables)))

    return check


def _guarded(build: Callable[..., Any]) -> Callable[..., Any]:
    """Let a replacement return one of its variables.

    The rewriter would give that value the name of what it replaces, be it an input of the model.
    """

    def guarded(op: Any, **variables: Any) -> Any:
        given = {id(value) for value in variables.values()}
        results = build(op, **variables)
        if isinstance(results, ir.Value):
            return _passed(op, results, given)
        if isinstance(results, (list, tuple)):
            return [_passed(op, one, given) for one in results]
        return results

    return guarded


def _passed(op: Any, value: Any, given: set[int]) -> Any:
    return op.Pass(value, _domain=_DOMAIN) if id(value) in given else value


def _close_gaps(model: ir.Model) -> None:
    """Take the nodes of `_guarded` out again."""
    names = Names(model)
    for graph in all_graphs(model):
        graph.opset_imports.pop(_DOMAIN, None)
        for node in [one for one in graph if one.domain == _DOMAIN]:
            value = node.inputs[0]
            if value is not None:
                put_in_place(node.outputs[0], value, names)
                drop_unused([node])
