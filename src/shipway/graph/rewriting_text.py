"""Reads patterns and replacements in the text form of ONNX's own parser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from shipway.errors import UsageError

__all__ = ["read_pattern", "read_replacement"]

_HINT = 'E.g. "c = MatMul(a, b); d = Add(c, bias)"; attributes stand in <axis = 1>.'


def read_pattern(text: str) -> Callable[..., Any]:
    """Return the function onnxscript's rewriter takes for a pattern.

    Args:
        text: Nodes separated by ";". `<perm: ints = @p>` matches any value of an attribute, and
            calls it p.

    Raises:
        UsageError: The text cannot be read.
    """
    nodes = _read(text)
    _refuse_strays(nodes)
    variables = _variables(nodes)

    def pattern(op: Any, *given: Any) -> Any:
        values = dict(zip(variables, given, strict=True))
        for node in nodes:
            results = getattr(op, node.op_type)(
                *(values[name] if name else None for name in node.input),
                _domain=node.domain,
                _outputs=len(node.output),
                _allow_other_attributes=False,
                _allow_other_inputs=False,
                **_attributes(node, values, strict=True),
            )
            _bind(values, node, results)
        return [values[name] for name in nodes[-1].output]

    pattern.__signature__ = _signature(variables)  # type: ignore[attr-defined] # inspect reads it
    return pattern


def read_replacement(text: str) -> Callable[..., Any]:
    """Return the function onnxscript's rewriter takes for a replacement.

    Args:
        text: Nodes separated by ";", with variables of the pattern; or the name of one of them
            alone, where the pattern is to vanish.

    Raises:
        UsageError: The text cannot be read.
    """
    alone = text.strip().rstrip(";")
    if alone.isidentifier():
        return lambda op, **variables: _lookup(variables, alone)  # noqa: ARG005 -- the rewriter's form
    nodes = _read(text)

    def replacement(op: Any, **variables: Any) -> Any:
        values = dict(variables)
        for node in nodes:
            results = getattr(op, node.op_type)(
                *(_lookup(values, name) if name else None for name in node.input),
                _domain=node.domain,
                _outputs=len(node.output),
                **_attributes(node, values, strict=False),
            )
            _bind(values, node, results)
        return [values[name] for name in nodes[-1].output]

    return replacement


def _read(text: str) -> list[Any]:
    import onnx.parser

    found = []
    for part in text.split(";"):
        if not part.strip():
            continue
        try:
            found.append(onnx.parser.parse_node(part.strip()))
        except onnx.parser.ParseError as error:
            reason = error.args[0]
            reason = reason.decode() if isinstance(reason, bytes) else str(reason)
            lines = [
                line for line in reason.splitlines() if line and not line.startswith("Error c")
            ]
            raise UsageError(
                f"'{part.strip()}' is no node: {lines[-1].rstrip('.')}.", hint=_HINT
            ) from error
    if not found:
        raise UsageError("The pattern is empty.", hint=_HINT)
    return found


def _refuse_strays(nodes: Sequence[Any]) -> None:
    """Refuse nodes that do not lead to the last one: they would be left out of the match."""
    read = {name for node in nodes for name in node.input}
    for node in nodes[:-1]:
        if not read.intersection(node.output):
            raise UsageError(
                f"Nothing in the pattern reads '{', '.join(node.output)}', which {node.op_type} "
                "computes.",
                hint="The last node of a pattern is what all others lead to.",
            )


def _variables(nodes: Iterable[Any]) -> list[str]:
    """Return the names that come from outside, values and attributes, in order."""
    made: set[str] = set()
    found: list[str] = []
    for node in nodes:
        found += [name for name in node.input if name and name not in made]
        found += [one.ref_attr_name for one in node.attribute if one.ref_attr_name]
        made.update(node.output)
    names = list(dict.fromkeys(found))
    for name in names:
        if not name.isidentifier():
            raise UsageError(f"'{name}' cannot name a variable of a pattern.", hint=_HINT)
    return names


def _signature(variables: Iterable[str]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in ("op", *variables)])


def _attributes(node: Any, values: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    found = {}
    for one in node.attribute:
        if one.ref_attr_name:
            found[one.name] = values[one.ref_attr_name] if strict else _renamed(one, values)
        else:
            found[one.name] = ir.serde.deserialize_attribute(one).value
    return found


def _renamed(attribute: Any, values: Mapping[str, Any]) -> Any:
    given = _lookup(values, attribute.ref_attr_name)
    return ir.Attr(attribute.name, given.type, given.value)


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise UsageError(
            f"The replacement reads '{name}', which the pattern does not have: it has "
            f"{', '.join(values)}.",
            hint=_HINT,
        )
    return values[name]


def _bind(values: dict[str, Any], node: Any, results: Any) -> None:
    many = results if isinstance(results, (list, tuple)) else [results]
    values.update(zip(node.output, many, strict=True))
