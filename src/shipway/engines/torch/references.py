"""Have a program call the references of its custom operators: golden must not run the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shipway.ops.adoption import is_operator
from shipway.ops.registry import known_operator
from shipway.ops.widening import call_reference

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["call_references"]


def call_references(module: Any) -> tuple[str, ...]:
    """Have a program call the references of its custom operators, and return their names.

    Golden is what the kernels are judged against, so it must not run them.

    Args:
        module: A torch.fx.GraphModule; it and those inside it are changed.
    """
    import torch

    called: dict[str, None] = {}
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            op = known_operator(str(node.target.name())) if is_operator(node.target) else None
            if op is not None and not op.foreign:
                node.target = _reference(op)
                called[op.name] = None
        part.recompile()
    return tuple(called)


def _reference(op: CustomOp) -> Callable[..., Any]:
    """Return the reference as a function with a name, which torch writes into the program's code."""

    def reference(*args: Any, **kwargs: Any) -> Any:
        return call_reference(op, *args, **kwargs)

    reference.__name__ = f"reference_of_{op.namespace}_{op.short_name}"
    return reference
