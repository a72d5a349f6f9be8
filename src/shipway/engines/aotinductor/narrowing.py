"""Rewrite an exported program so that it computes in bfloat16, its inputs and outputs unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shipway.engines.exported import Signature
from shipway.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

__all__ = ["narrow_program"]


def narrow_program(program: ExportedProgram, signature: Signature) -> ExportedProgram:
    """Return a program that computes in bfloat16 where that is safe.

    Weights become bfloat16 once, except those of normalisation layers; float32 inputs are cast on
    entry and outputs cast back. Where the model computes in float32 on purpose (an upcast, a
    position table), pointwise operators stay in float32 and the next product casts.

    Args:
        program: What to rewrite; it is not changed.
        signature: How it is called.

    Raises:
        EngineError: The rewritten program fixes a size that was dynamic.
    """
    import torch

    examples = tensor_examples(program)
    dynamic = dynamic_axes(program, signature)
    module = _narrow_module(program.module(), signature)
    with torch.no_grad():
        narrowed = torch.export.export(module, tuple(examples), dynamic_shapes=(_shapes(dynamic),))
    placeholders = [node for node in narrowed.graph.nodes if node.op == "placeholder"]
    kept = [_dynamic(node) for node in placeholders[len(placeholders) - len(examples) :]]
    lost = [
        name
        for name, old, new in zip(signature.placeholders, dynamic, kept, strict=True)
        if old != new
    ]
    if lost:
        raise EngineError(
            f"In bfloat16 the size of input {', '.join(lost)} would no longer be free."
        )
    return narrowed


def tensor_examples(program: ExportedProgram) -> list[Tensor]:
    """Return the tensors the program was exported with, in order."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(program.example_inputs)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def dynamic_axes(program: ExportedProgram, signature: Signature) -> list[tuple[int, ...]]:
    """Return the axes of each input that may take several sizes."""
    nodes = {node.name: node for node in program.graph.nodes}
    return [_dynamic(nodes[name]) for name in signature.placeholders]


def _dynamic(node: Any) -> tuple[int, ...]:
    shape = node.meta["val"].shape
    return tuple(axis for axis, size in enumerate(shape) if not isinstance(size, int))


def _shapes(dynamic: Sequence[tuple[int, ...]]) -> tuple[dict[int, Any] | None, ...]:
    from torch.export import Dim

    return tuple(dict.fromkeys(axes, Dim.AUTO) or None for axes in dynamic)


def _narrow_module(graph: GraphModule, signature: Signature) -> nn.Module:
    import torch
    from torch.fx import Interpreter
    from torch.utils import _pytree as pytree

    wide, narrow = torch.float32, torch.bfloat16

    def to_narrow(value: Any) -> Any:
        is_wide = isinstance(value, torch.Tensor) and value.dtype == wide
        return value.to(narrow) if is_wide else value

    def to_wide(value: Tensor) -> Tensor:
        return value.to(wide) if value.dtype == narrow else value

    class Narrower(Interpreter):  # type: ignore[misc] # torch is Any for mypy
        """Runs the graph; where an operator would meet both widths, casts to the narrow one."""

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            name = str(target)
            if "_assert_tensor_metadata" in name:
                return None  # it asserts the dtypes of the wide program
            pointwise = torch.Tag.pointwise in getattr(target, "tags", ())
            if not pointwise and "norm" not in name:
                found = {
                    getattr(leaf, "dtype", None) for leaf in pytree.tree_leaves((args, kwargs))
                }
                if {wide, narrow} <= found:
                    args, kwargs = pytree.tree_map(to_narrow, (args, kwargs))
            return super().call_function(target, args, kwargs)

    class Narrowed(torch.nn.Module):  # type: ignore[misc] # torch is Any for mypy
        """The program with its casts at both ends, called with flat tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.program = graph

        def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
            leaves = signature.leaves(to_narrow(tensor) for tensor in tensors)
            interpreter = Narrower(self.program)
            results = interpreter.run(*leaves, enable_io_processing=False)
            return tuple(to_wide(leaf) for leaf in results if isinstance(leaf, torch.Tensor))

    _narrow_weights(graph)
    return Narrowed()


def _narrow_weights(graph: GraphModule) -> None:
    import torch

    for node in graph.graph.nodes:
        if node.op != "get_attr" or any("norm" in str(user.target) for user in node.users):
            continue
        owner_path, _, leaf = node.target.rpartition(".")
        owner = graph.get_submodule(owner_path)
        value = getattr(owner, leaf)
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            continue
        narrow = value.detach().to(torch.bfloat16)
        is_weight = isinstance(value, torch.nn.Parameter)
        setattr(
            owner, leaf, torch.nn.Parameter(narrow, requires_grad=False) if is_weight else narrow
        )
