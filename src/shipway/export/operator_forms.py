"""The form custom operators take in an ONNX file: nodes, nodes with a body, standard operators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError
from shipway.export.operator_nodes import attach_bodies, inline_operators, rename_operators
from shipway.export.options import OLDEST_OPSET, ExportOptions
from shipway.ops.onnx_nodes import custom_nodes
from shipway.ops.registry import all_operators, known_operator
from shipway.ops.widening import call_reference

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["inline_while_tracing", "write_operators"]


def write_operators(model: ir.Model, options: ExportOptions) -> dict[str, str]:
    """Bring the custom operators of a model into the form that the options ask for, in place.

    Returns:
        The form of each operator: "node npu::RoiAlign", "function shipway::RoiAlign", "inlined".

    Raises:
        ExportError: An operator cannot take this form, or has no name in the domain asked for.
    """
    called = {item.op.name: item.op for item in custom_nodes(model)}
    if not called and options.custom_ops_domain is not None:
        raise ExportError(
            "The model calls no custom operator that could be renamed.",
            hint="Leave out --custom-ops-domain.",
        )
    everything = options.custom_ops == "inline"
    alone = options.custom_ops == "auto"
    inlined = inline_operators(model, lambda op: everything or (alone and op.foreign))
    if options.custom_ops_domain is not None:
        rename_operators(model, options.custom_ops_domain)
    bodies = _attach(model, options) if options.custom_ops == "function" else ()
    forms = dict.fromkeys(inlined, "inlined")
    for item in custom_nodes(model):
        word = "function" if item.op.name in bodies else "node"
        forms[item.op.name] = f"{word} {item.node.domain or 'ai.onnx'}::{item.node.op_type}"
    return forms


def _attach(model: ir.Model, options: ExportOptions) -> tuple[str, ...]:
    if options.opset < OLDEST_OPSET:
        raise ExportError(
            f"A body as a local function needs opset {OLDEST_OPSET} or newer; {options.opset} was asked for.",
            hint="Use --custom-ops node or inline.",
        )
    return attach_bodies(model)


@contextlib.contextmanager
def inline_while_tracing(options: ExportOptions) -> Iterator[None]:
    """Have the old tracer see the references in place of the operators, where all are inlined.

    A body made afterwards would need opset 18; the tracer writes the reference at any.
    """
    import torch

    if options.custom_ops != "inline":
        yield
        return
    all_operators()

    class Inline(torch.overrides.TorchFunctionMode):
        """Calls the reference where a custom operator is called."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            op = known_operator(_name(function))
            if op is None:
                return function(*args, **(kwargs or {}))
            return call_reference(op, *args, **(kwargs or {}))

    with Inline():
        yield


def _name(function: Any) -> str:
    import torch

    if isinstance(function, torch._ops.OpOverload):  # noqa: SLF001 -- its only home
        return str(function.name()).partition(".")[0]
    if isinstance(function, torch._ops.OpOverloadPacket):  # noqa: SLF001 -- its only home
        return str(function._qualified_op_name)  # noqa: SLF001 -- torch has no public way to it
    return ""
