"""The form custom operators take in an ONNX file: nodes, nodes with a body, standard operators."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError
from shipway.export.operator_nodes import attach_bodies, inline_operators, rename_operators
from shipway.export.operator_translation import has_own_symbolic
from shipway.export.options import OLDEST_OPSET, ExportOptions
from shipway.ops.adoption import python_body
from shipway.ops.onnx_nodes import custom_nodes
from shipway.ops.onnx_schema import forget_schema
from shipway.ops.registry import all_operators, known_operator
from shipway.ops.widening import call_reference

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.ops.definition import CustomOp

__all__ = ["inline_while_tracing", "write_operators"]

_NO_POINTERS = {"fake_tensor_allow_unsafe_data_ptr_access": False}


def write_operators(model: ir.Model, options: ExportOptions) -> dict[str, str]:
    """Bring the custom operators of a model into the form that the options ask for, in place.

    Nodes that a user's `symbolic` function wrote for an operator of torch.library stay as they are.

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

    def ours(op: CustomOp) -> bool:
        return not (options.legacy and op.foreign)

    inlined = inline_operators(
        model, lambda op: ours(op) and (everything or (alone and op.foreign))
    )
    if options.custom_ops_domain is not None:
        rename_operators(model, options.custom_ops_domain)
    bodies = _attach(model, options, ours) if options.custom_ops == "function" else ()
    forms = dict.fromkeys(inlined, "inlined")
    for item in custom_nodes(model):
        if not ours(item.op):
            forget_schema(item.op)  # the user's node need not be what torch's schema says
        word = "function" if item.op.name in bodies else "node"
        forms[item.op.name] = f"{word} {item.node.domain or 'ai.onnx'}::{item.node.op_type}"
    return forms


def _attach(
    model: ir.Model, options: ExportOptions, choose: Callable[[CustomOp], bool]
) -> tuple[str, ...]:
    if options.opset < OLDEST_OPSET:
        raise ExportError(
            f"A body as a local function needs opset {OLDEST_OPSET} or newer; {options.opset} was asked for.",
            hint="Use --custom-ops node or inline.",
        )
    return attach_bodies(model, choose)


@contextlib.contextmanager
def inline_while_tracing(options: ExportOptions) -> Iterator[None]:
    """Have the old tracer see what is to be inlined in place of the operators that are called.

    That is the reference of each operator where all are inlined (a body made afterwards would need
    opset 18; the tracer writes the reference at any), and the Python function of a
    torch.library.custom_op. An operator that the user gave a `symbolic` function keeps it.
    """
    import torch

    if options.custom_ops not in {"auto", "inline"}:
        yield
        return
    all_operators()

    class Inline(torch.overrides.TorchFunctionMode):
        """Calls what is to be inlined where a custom operator is called."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            inlined = _inlined(_name(function), options) or function
            return inlined(*args, **(kwargs or {}))

    with Inline():
        yield


def _inlined(name: str, options: ExportOptions) -> Callable[..., Any] | None:
    if not name or has_own_symbolic(name, options.opset):
        return None
    op = known_operator(name)
    if op is None or op.foreign:
        body = python_body(name)
        return None if body is None else partial(_trace_body, name, body)
    return partial(call_reference, op) if options.custom_ops == "inline" else None


def _trace_body(name: str, body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a Python function while it is traced; one that leaves torch would be traced as constants."""
    import torch
    from torch._functorch import config
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._pytree import tree_map_only

    try:
        # Without data: whatever reads it (numpy, a C library) raises here.
        with _untraced(), config.patch(_NO_POINTERS), FakeTensorMode() as mode:
            fakes = tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
            body(*fakes[0], **fakes[1])
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"The function of {name} cannot be traced: {reason}",
            hint="Tell the tracer what to write, with torch.onnx.register_custom_op_symbolic.",
        ) from error
    return body(*args, **kwargs)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Have the old tracer look away for the length of the block."""
    import torch

    state = torch._C._get_tracing_state()  # noqa: SLF001 -- torch.jit does it like this
    torch._C._set_tracing_state(None)  # noqa: SLF001 -- the same
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # noqa: SLF001 -- the same


def _name(function: Any) -> str:
    import torch

    if isinstance(function, torch._ops.OpOverload):  # noqa: SLF001 -- its only home
        return str(function.name()).partition(".")[0]
    if isinstance(function, torch._ops.OpOverloadPacket):  # noqa: SLF001 -- its only home
        return str(function._qualified_op_name)  # noqa: SLF001 -- torch has no public way to it
    return ""
