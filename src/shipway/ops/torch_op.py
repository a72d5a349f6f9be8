"""An operator in PyTorch: schema, kernels, shape rule and gradient, registered when first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from shipway.ops.widening import call_reference

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["overload_of", "register_all"]

_LIBRARIES: dict[str, Any] = {}
_LOCK = threading.RLock()


def overload_of(op: CustomOp) -> Any:
    """Return the torch operator, registered first if it is not yet.

    Raises:
        EngineError: The native kernel does not build or load, or does not fit its definition.
        UsageError: The definition has a mistake in it.
    """
    import torch

    if op.name not in _LIBRARIES and not op.foreign:
        with _LOCK:
            if op.name not in _LIBRARIES:
                _LIBRARIES[op.name] = _register(op)
    packet = getattr(getattr(torch.ops, op.namespace), op.short_name)
    return packet.default


def register_all() -> None:
    """Register every known operator: a program that calls one can then be loaded."""
    from shipway.ops.registry import all_operators

    for op in all_operators():
        overload_of(op)


def _register(op: CustomOp) -> Any:
    import torch

    from shipway.ops.cuda_kernel import register_cuda_kernel
    from shipway.ops.native_op import register_native

    _ = op.signature  # complains about a wrong schema before torch does
    library = torch.library.Library(op.namespace, "FRAGMENT")
    tags = (torch.Tag.pt2_compliant_tag,)
    library.define(f"{op.short_name}{op.schema}", tags=tags)

    def compute(*args: Any, **kwargs: Any) -> Any:
        return _own_memory(call_reference(op, *args, **kwargs), (*args, *kwargs.values()))

    library.impl(op.short_name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(op.name, _shape_rule(op), lib=library)
    if op.differentiable and "T" in op.signature.outputs:
        torch.library.register_autograd(
            op.name, _backward(op), setup_context=_keep_inputs, lib=library
        )
    register_native(op)
    register_cuda_kernel(op)
    return library


def _shape_rule(op: CustomOp) -> Any:
    if op.shape is not None:
        return op.shape

    def run_reference(*args: Any, **kwargs: Any) -> Any:
        import torch

        results = call_reference(op, *args, **kwargs)
        # Kernels write their outputs in C order, whatever strides the reference would give them.
        if isinstance(results, tuple):
            return tuple(
                torch.empty(item.shape, dtype=item.dtype, device=item.device) for item in results
            )
        return torch.empty(results.shape, dtype=results.dtype, device=results.device)

    return run_reference


def _own_memory(results: Any, inputs: tuple[Any, ...]) -> Any:
    """Return results in C order that share no memory with the inputs, as torch demands of operators."""
    import torch

    theirs = {
        item.untyped_storage().data_ptr() for item in inputs if isinstance(item, torch.Tensor)
    }

    def own(item: Any) -> Any:
        shares = item.untyped_storage().data_ptr() in theirs
        return item.clone(memory_format=torch.contiguous_format) if shares else item.contiguous()

    return tuple(own(item) for item in results) if isinstance(results, tuple) else own(results)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 -- torch's signature
    import torch

    ctx.places = [isinstance(item, torch.Tensor) for item in inputs]
    ctx.rest = [None if place else item for place, item in zip(ctx.places, inputs, strict=True)]
    ctx.save_for_backward(*(item for item in inputs if isinstance(item, torch.Tensor)))


def _backward(op: CustomOp) -> Any:
    """Return the gradient of the reference, which is run again for it."""

    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        import torch

        saved = iter(ctx.saved_tensors)
        args = [
            next(saved) if place else rest for place, rest in zip(ctx.places, ctx.rest, strict=True)
        ]
        wanted = [at for at, needs in enumerate(ctx.needs_input_grad) if needs]
        with torch.enable_grad():
            for at in wanted:
                args[at] = args[at].detach().requires_grad_()
            results = call_reference(op, *args)
        results = results if isinstance(results, tuple) else (results,)
        pairs = [
            (result, gradient)
            for result, gradient in zip(results, gradients, strict=True)
            if gradient is not None and result.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [result for result, _ in pairs],
                [args[at] for at in wanted],
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
            if pairs
            else [None] * len(wanted)
        )
        return tuple(next(found) if at in wanted else None for at in range(len(args)))

    return backward
