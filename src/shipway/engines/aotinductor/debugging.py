"""What is to be known of a program and of its debug build, found out where both are at hand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

__all__ = ["SAVED", "describe_debug"]

SAVED = "tmp"
"""The folder, inside the current one, that a debug package writes to."""


def describe_debug(
    program: ExportedProgram, examples: Sequence[Any], folder: Path
) -> dict[str, Any]:
    """Describe the nodes of a program, and the files that its debug package left after a run.

    Args:
        program: What was compiled.
        examples: What it was run with; its constants included.
        folder: Where it was run; the files are deleted.
    """
    module = program.module()
    facts = {
        "nodes": _describe_nodes(module, examples),
        "results": _describe_results(module),
        "saved": _describe_files(folder / SAVED),
    }
    shutil.rmtree(folder / SAVED, ignore_errors=True)
    return facts


def _describe_results(module: GraphModule) -> list[str]:
    """Return the node of each result; "" for a constant."""
    from torch.fx import Node
    from torch.utils import _pytree as pytree

    (output,) = (node for node in module.graph.nodes if node.op == "output")
    leaves = pytree.tree_leaves(output.args[0])
    return [leaf.name if isinstance(leaf, Node) else "" for leaf in leaves]


def _describe_nodes(module: GraphModule, examples: Sequence[Any]) -> list[dict[str, Any]]:
    import torch
    from torch.fx import Interpreter, Node

    found: list[dict[str, Any]] = []

    class Observer(Interpreter):  # type: ignore[misc] # torch is Any for mypy
        """Runs the program and notes down the form of each result."""

        def run_node(self, node: Node) -> Any:
            result = super().run_node(node)
            if node.op == "call_function" and isinstance(result, torch.Tensor):
                found.append(
                    {
                        "name": node.name,
                        "inputs": [one.name for one in node.all_input_nodes],
                        "dtype": _dtype(result),
                        "count": result.numel(),
                    }
                )
            return result

    with torch.no_grad():
        copies = [one.clone() if isinstance(one, torch.Tensor) else one for one in examples]
        Observer(module).run(*copies, enable_io_processing=False)
    return found


def _describe_files(folder: Path) -> dict[str, Any]:
    import torch

    found = {}
    for path in sorted(folder.glob("*.pt")):
        value = torch.load(path, weights_only=True)
        found[path.name] = [_dtype(value), value.numel()]
    return found


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")
