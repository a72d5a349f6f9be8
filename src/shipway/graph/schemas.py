"""What ONNX says of an operator: attributes, number of inputs, element types it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.standard import STANDARD_DOMAINS, is_standard

__all__ = ["check_node", "find_schema", "form_problem"]

_LARGEST_VERSION = 2**31 - 1  # onnx takes no larger one


def find_schema(op_type: str, domain: str, version: int | None) -> Any | None:
    """Return the newest schema of an operator up to an opset; None for one ONNX does not know."""
    import onnx

    domain = "" if domain in STANDARD_DOMAINS else domain
    newest = onnx.defs.onnx_opset_version() if version is None else version
    try:
        return onnx.defs.get_schema(op_type, min(newest, _LARGEST_VERSION), domain)
    except onnx.defs.SchemaError:
        return None


def check_node(node: ir.Node, version: int | None) -> None:
    """Refuse a node that ONNX's own schema rules out; custom operators pass.

    Args:
        node: The node.
        version: The opset in force for its domain.

    Raises:
        UsageError: The default domain has no such operator, or it has other attributes or fewer
            inputs.
    """
    schema = find_schema(node.op_type, node.domain, version)
    label = f"'{node.name}' ({node.op_type})" if node.name else node.op_type
    if schema is None:
        if is_standard(node):
            raise UsageError(
                f"ONNX has no operator {node.op_type} in opset {version}.",
                hint="Give domain= for an operator of your own.",
            )
        return
    problem = form_problem(node, schema)
    if problem:
        raise UsageError(f"{label} would not be valid in opset {version}: {problem}.")


def form_problem(node: ir.Node, schema: Any) -> str:
    """Say why a node does not have the form of a schema; "" when it has."""
    unknown = sorted(set(node.attributes) - set(schema.attributes))
    if unknown:
        known = ", ".join(sorted(schema.attributes)) or "none"
        return f"it has no attribute {', '.join(unknown)} (it has {known})"
    missing = [
        name
        for name, one in schema.attributes.items()
        if one.required and name not in node.attributes
    ]
    if missing:
        return f"it needs the attribute {', '.join(missing)}"
    count = len(node.inputs)
    if not schema.min_input <= count <= schema.max_input:
        return f"it takes {_range(schema.min_input, schema.max_input)} inputs, not {count}"
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        return f"it gives {_range(schema.min_output, schema.max_output)} outputs"
    return _type_problem(node, schema)


def _range(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} to {most}" if most < 2**31 - 1 else f"{least} or more"


def _type_problem(node: ir.Node, schema: Any) -> str:
    bound: dict[str, str] = {}
    for value, formal in (
        *_pairs(node.inputs, schema.inputs),
        *_pairs(node.outputs, schema.outputs),
    ):
        if value is None and formal.option.name == "Single":
            return f"it needs its input {formal.name}"
        text = "" if value is None else _type_text(value.type)
        if value is None or not text:
            continue
        if text not in formal.types:
            return f"'{value.name}' is {_short(text)}, which it does not take"
        is_same = formal.option.name != "Variadic" or formal.is_homogeneous
        if is_same and bound.setdefault(formal.type_str, text) != text:
            return f"'{value.name}' is {_short(text)}, another is {_short(bound[formal.type_str])}"
    return ""


def _type_text(kind: ir.TypeProtocol | None) -> str:
    """Write a type as ONNX's schemas do; "" for an unknown one."""
    if isinstance(kind, ir.TensorType):
        known = kind.dtype is not ir.DataType.UNDEFINED
        return f"tensor({_NAMES.get(kind.dtype, kind.dtype.name.lower())})" if known else ""
    for wrapper, name in ((ir.SequenceType, "seq"), (ir.OptionalType, "optional")):
        if isinstance(kind, wrapper):
            inner = _type_text(kind.elem_type)
            return f"{name}({inner})" if inner else ""
    return ""


def _short(text: str) -> str:
    return text.removeprefix("tensor(").removesuffix(")") if text.startswith("tensor(") else text


_NAMES = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}


def _pairs(
    values: Iterable[ir.Value | None], formals: Iterable[Any]
) -> Iterable[tuple[ir.Value | None, Any]]:
    formal = None
    rest = iter(formals)
    for value in values:
        formal = next(rest, formal)
        if formal is not None:
            yield value, formal
