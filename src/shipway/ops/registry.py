"""Which operators there are: those of installed packages, and those the user's own files define."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

from shipway.errors import EngineError, UsageError
from shipway.ops.definition import CustomOp

__all__ = [
    "GROUP",
    "add_operator",
    "all_operators",
    "find_operator",
    "known_names",
    "known_operator",
    "operator_for_node",
]

GROUP = "shipway.ops"
_OPERATORS: dict[str, CustomOp] = {}


def add_operator(op: CustomOp) -> CustomOp:
    """Register a definition and return it.

    A module that is imported again (a notebook cell, a reload) may define the same operator again,
    as long as nothing has changed that torch or ONNX have been told.

    Raises:
        UsageError: Another operator has this name, or this ONNX name, already.
    """
    for other in _OPERATORS.values():
        if other.onnx_id == op.onnx_id and other.name != op.name:
            raise UsageError(
                f"{op.name} and {other.name} would both be {op.onnx_id} in ONNX.",
                hint="Give one of them another onnx_name.",
            )
    known = _OPERATORS.setdefault(op.name, op)
    if known is not op and _facts(known) != _facts(op):
        raise UsageError(
            f"There is an operator {op.name} already, with another definition.",
            hint="Give this one another name, or restart Python.",
        )
    return known


def _facts(op: CustomOp) -> tuple[object, ...]:
    code = getattr(op.reference, "__code__", None)
    return op.schema, op.types, op.onnx_name, op.version, getattr(code, "co_code", None)


@functools.cache
def load_packages() -> None:
    """Import every module that an installed package names in the entry-point group.

    Raises:
        EngineError: One of them does not import.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise EngineError(
                f"The operators of '{point.name}' ({point.value}) do not load: {error}.",
                hint="Reinstall the package that provides them.",
            ) from error


def all_operators() -> tuple[CustomOp, ...]:
    """Return every operator that is known here, in alphabetical order."""
    load_packages()
    return tuple(_OPERATORS[name] for name in sorted(_OPERATORS))


def known_names() -> tuple[str, ...]:
    """Return the names of the operators defined so far, in the order of their definition."""
    return tuple(_OPERATORS)


def known_operator(name: str) -> CustomOp | None:
    """Return the operator of a full torch name; None if it is unknown."""
    load_packages()
    return _OPERATORS.get(name)


def find_operator(name: str) -> CustomOp:
    """Return the operator of a name, with or without its namespace.

    Raises:
        UsageError: There is none, or several namespaces have one.
    """
    found = [op for op in all_operators() if name in {op.name, op.short_name, op.onnx_id}]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"Several operators are called '{name}'.",
            hint=f"Name one in full: {', '.join(op.name for op in found)}.",
        )
    raise UsageError(
        f"There is no operator '{name}'.",
        hint="See shipway op list; --ops FILE.py brings your own.",
    )


def operator_for_node(domain: str, op_type: str) -> CustomOp | None:
    """Return the operator that an ONNX node calls, by its own name or an alias; None if unknown."""
    load_packages()
    for op in _OPERATORS.values():
        names = {
            (op.namespace, op.onnx_name),
            *((alias.domain, alias.name) for alias in op.aliases),
        }
        if (domain, op_type) in names:
            return op
    return None
