"""Where a node of an ONNX graph comes from, by what PyTorch's exporters left on it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shipway.source.locations import trace_location

__all__ = ["STACK_TRACE", "Origin", "module_path", "read_origin", "read_scopes"]

STACK_TRACE = "pkg.torch.onnx.stack_trace"
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Origin:
    """The place in a PyTorch program that a node was made for.

    Args:
        module: Path of the module, e.g. "blocks.1.attn"; "" is the model itself, or nobody knows.
        source: The line of the user's code, e.g. "net.py:18"; "" where there is none.
        code: That line.
        fx: Node of the program; "" where there is none.
    """

    module: str = ""
    source: str = ""
    code: str = ""
    fx: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"module": self.module, "source": self.source, "code": self.code, "fx": self.fx}


def read_origin(name: str, metadata: Mapping[str, str]) -> Origin:
    """Read where a node comes from: its metadata, else its name as the old tracer gave it.

    Args:
        name: Name of the node.
        metadata: What the exporter left on it.

    Example:
        >>> read_origin("/blocks/blocks.1/attn/MatMul", {}).module
        'blocks.1.attn'
        >>> read_origin("n", {"pkg.torch.onnx.name_scopes": "['', 'blocks', 'blocks.1', 'mul']"})
        Origin(module='blocks.1', source='', code='', fx='mul')
    """
    scopes = read_scopes(metadata)
    line = trace_location(metadata.get(STACK_TRACE, ""))
    return Origin(
        scopes[-2] if len(scopes) > 1 else "" if scopes else _traced_module(name),
        "" if line is None else str(line),
        "" if line is None else line.code,
        scopes[-1] if scopes else "",
    )


def read_scopes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules around a node, from the outside in, and its node of the program.

    Nothing where there is no record, or one that cannot be read.
    """
    try:
        found = ast.literal_eval(metadata.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ()
    return tuple(map(str, found)) if isinstance(found, (list, tuple)) else ()


def _traced_module(name: str) -> str:
    return module_path(name) if name.startswith("/") else ""


def module_path(node_name: str) -> str:
    """Return the module path in the name of a traced node.

    Example:
        >>> module_path("/stem/stem.0/Conv"), module_path("/attn/qkv/MatMul"), module_path("/Add_1")
        ('stem.0', 'attn.qkv', '')
    """
    path = ""
    for part in node_name.strip("/").split("/")[:-1]:
        # A container's child carries the container's path already; an attribute does not.
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path
