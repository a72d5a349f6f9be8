"""Write a piece of a program as a program of its own."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shipway.engines.torch.flat_program import FlatProgram
from shipway.engines.torch.walking import Memory, own_array
from shipway.files import atomic_path, make_folder

__all__ = ["save_piece"]


def save_piece(
    flat: FlatProgram,
    memory: Memory,
    nodes: Sequence[Any],
    starts: Sequence[Any],
    folder: Path,
) -> Path:
    """Write `piece.pt2`, or `piece.txt` and `piece.npz` where torch cannot export it.

    Args:
        flat: The program.
        memory: Sizes that are fixed in the piece, and shapes of its inputs.
        nodes: The nodes of the piece, in order.
        starts: Its inputs, in order.
        folder: Created if absent.

    Raises:
        OutputError: The folder cannot be written to.
    """
    make_folder(folder)
    module, weights = _build(flat, memory, nodes, starts)
    data = _export(module, [_example(flat, memory, node) for node in starts])
    if data is not None:
        return _write(folder / "piece.pt2", data)
    text = f"inputs: {', '.join(node.name for node in starts)}\n\n{module.graph}\n"
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: own_array(value) for name, value in weights.items()}
    np.savez(buffer, **arrays)
    _write(folder / "piece.npz", buffer.getvalue())
    return _write(folder / "piece.txt", text.encode())


def _write(path: Path, data: bytes) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def _build(
    flat: FlatProgram, memory: Memory, nodes: Sequence[Any], starts: Sequence[Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the piece as a torch.fx.GraphModule, and its weights by name."""
    import torch

    root = torch.nn.Module()
    weights: dict[str, Any] = {}
    graph = torch.fx.Graph()
    copies: dict[Any, Any] = {node: graph.placeholder(node.name) for node in starts}
    for node in nodes:
        if node in flat.weights:
            copies[node] = _copy_weight(graph, root, node, flat.weights[node], weights)
        elif node in memory.sizes:
            copies[node] = memory.sizes[node]
        elif node.op == "get_attr":
            setattr(root, node.target, getattr(flat.module, node.target))
            copies[node] = graph.get_attr(node.target)
        else:
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), copies.__getitem__)
            copies[node] = graph.call_function(node.target, *arguments)
    graph.output(copies[nodes[-1]])
    return torch.fx.GraphModule(root, graph), weights


def _copy_weight(graph: Any, root: Any, node: Any, value: Any, weights: dict[str, Any]) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    root.register_buffer(node.name, value.detach().clone())
    weights[node.name] = value
    return graph.get_attr(node.name)


def _example(flat: FlatProgram, memory: Memory, node: Any) -> Any:
    import torch

    form = memory.forms.get(node)
    if form is not None:
        return torch.zeros_like(form, device="cpu")
    value = node.meta["val"]
    dtype = torch.float64 if flat.double and value.dtype.is_floating_point else value.dtype
    return torch.zeros([size if isinstance(size, int) else 2 for size in value.shape], dtype=dtype)


def _export(module: Any, example: Sequence[Any]) -> bytes | None:
    """Return the bytes of the exported program; None where torch refuses, with whatever error."""
    import torch

    buffer = io.BytesIO()
    with contextlib.suppress(Exception), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, tuple(example)), buffer)
        return buffer.getvalue()
    return None
