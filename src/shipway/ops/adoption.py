"""Take in an operator that somebody defined with torch alone (`torch.library`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shipway.errors import ExportError, UsageError
from shipway.ops.definition import CustomOp
from shipway.ops.registry import add_operator, known_operator
from shipway.ops.schema import LETTERS

__all__ = [
    "adopt_operator",
    "foreign_overloads",
    "is_operator",
    "names_called",
    "operators_called",
    "python_body",
]

_TORCH = frozenset({"aten", "prim", "prims", "quantized", "higher_order", "onnx", "onnx_symbolic"})
_LETTER_OF = {dtype: letter for letter, dtype in LETTERS.items()} | {
    "float32": "T",
    "float64": "T",
    "float16": "T",
    "bfloat16": "T",
}


def operators_called(program: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the nodes of an exported program that call an operator outside torch, with its overload."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            if is_operator(node.target):
                yield node, node.target


def names_called(program: Any) -> set[str]:
    """Return the names of the operators outside torch that a program calls."""
    return {_name_of(overload) for _, overload in operators_called(program)}


def _name_of(overload: Any) -> str:
    return str(overload.name()).partition(".")[0]


def is_operator(target: Any) -> bool:
    """Whether the target of a node is an operator from outside torch."""
    import torch

    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001 -- its only home
        return False
    namespace = str(target.namespace)
    return namespace not in _TORCH and not namespace.startswith("_")


def foreign_overloads(program: Any) -> dict[str, CustomOp]:
    """Return the definition of every operator outside torch that a program calls, by its name.

    Those that were defined with torch alone are taken in.

    Raises:
        ExportError: One has a signature that ONNX cannot carry.
    """
    found: dict[str, CustomOp] = {}
    for node, overload in operators_called(program):
        name = _name_of(overload)
        if name not in found:
            found[name] = known_operator(name) or adopt_operator(name, overload, _dtypes(node))
    return found


def _dtypes(node: Any) -> tuple[Sequence[str | None], Sequence[str]]:
    def dtype(value: Any) -> str | None:
        found = getattr(value, "dtype", None)
        return None if found is None else str(found).removeprefix("torch.")

    values = [dtype(getattr(item, "meta", {}).get("val")) for item in node.args]
    result = node.meta.get("val")
    results = result if isinstance(result, tuple | list) else (result,)
    return values, [dtype(item) or "float32" for item in results]


def adopt_operator(
    name: str, overload: Any, dtypes: tuple[Sequence[str | None], Sequence[str]]
) -> CustomOp:
    """Define an operator that torch knows already, from its schema and what it was called with.

    Args:
        name: `namespace::name`.
        overload: The torch operator.
        dtypes: Dtypes of the arguments, None for what is no tensor, and of the results.

    Raises:
        ExportError: It takes or returns something that ONNX cannot carry.
    """
    schema = str(overload._schema).partition("(")  # noqa: SLF001 -- torch has no public way to it
    tensors = [item for item in overload._schema.arguments if "Tensor" in str(item.type)]  # noqa: SLF001 -- the same
    letters = [_LETTER_OF.get(dtype or "float32", "T") for dtype in dtypes[0][: len(tensors)]]
    letters += ["T"] * (len(tensors) - len(letters))
    op = CustomOp(
        name=name,
        schema=schema[1] + schema[2],
        reference=python_body(name) or _refusal(name),
        types=f"{''.join(letters)}->{''.join(_LETTER_OF.get(dtype, 'T') for dtype in dtypes[1])}",
        onnx_name=name.partition("::")[2],
        foreign=True,
    )
    try:
        _ = op.signature
    except UsageError as error:
        raise ExportError(str(error), hint=error.hint) from error
    return add_operator(op)


def python_body(name: str) -> Callable[..., Any] | None:
    """Return the Python function of a torch.library.custom_op; None where there is none."""
    from torch._library.custom_ops import OPDEFS

    definition = OPDEFS.get(name)
    if definition is None:
        return None
    body: Callable[..., Any] = definition._init_fn  # noqa: SLF001 -- torch has no public way to it
    return body


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ExportError(
            f"{name} is registered in torch without a Python function to take apart.",
            hint="Define it with shipway.ops.custom_op, or export with --custom-ops node.",
        )

    return refuse
