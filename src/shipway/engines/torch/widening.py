"""A program in float64: the same operators, with nothing of float32 left between them."""

from __future__ import annotations

from typing import Any

__all__ = ["is_assertion", "to_double", "widen_arguments", "widen_graph"]


def to_double(value: Any) -> Any:
    """Return a value with every float tensor in it as float64; all else as it is."""
    import torch

    if isinstance(value, torch.Tensor):
        narrow = value.is_floating_point() and value.dtype is not torch.float64
        return value.detach().to(torch.float64) if narrow else value
    if isinstance(value, tuple | list):
        return type(value)(map(to_double, value))
    return value


def widen_graph(module: Any) -> None:
    """Have a torch.fx.GraphModule, and those inside it, name float64 wherever it names a float dtype.

    Its assertions on dtypes are taken out: they hold for the model as it is written.
    """
    import torch

    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in list(part.graph.nodes):
            if is_assertion(node):
                node.target, node.args, node.kwargs = _nothing, (), {}
            elif node.op == "call_function":
                node.args, node.kwargs = widen_arguments(node, node.args, node.kwargs)
        part.recompile()


def is_assertion(node: Any) -> bool:
    """Whether a node only checks the dtype that a tensor had when the program was exported."""
    import torch

    return node.target is torch.ops.aten._assert_tensor_metadata.default  # noqa: SLF001 -- torch's own name


def widen_arguments(node: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a node with float64 in the place of each float dtype.

    A block under autocast runs without it.
    """
    import torch

    if node.target is torch.ops.higher_order.wrap_with_autocast:
        return (*args[:2], False, *args[3:]), kwargs  # device, dtype, enabled, ...
    map_aggregate = torch.fx.node.map_aggregate
    return map_aggregate(args, _widen_dtype), map_aggregate(kwargs, _widen_dtype)


def _widen_dtype(value: Any) -> Any:
    import torch

    if isinstance(value, torch.dtype) and value.is_floating_point:
        return torch.float64
    return value


def _nothing() -> None:
    """Stand where an assertion stood."""
