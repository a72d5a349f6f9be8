"""Leads from a value to its node, and to the module and line of the code it came from."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.export.name_map import NameMap, TensorEntry, read_name_map
from shipway.graph.locating import all_nodes
from shipway.proof.audit_results import Place
from shipway.source.origins import read_origin

__all__ = ["Places"]

_NODE = re.compile(r"Name:'(?P<name>[^']*)'")
_MAP_SUFFIX = ".map.json"


class Places:
    """Where the values of a model come from.

    Args:
        model: The model.
        path: Its file; a name map beside it is read.
    """

    def __init__(self, model: ir.Model, path: Path) -> None:
        """Read the name map, where there is one that can be read."""
        self._nodes = {value.name: node for node in model.graph for value in node.outputs}
        named = {_name(node): node for node in all_nodes(model) if not node.name}
        self._named = named | {node.name: node for node in all_nodes(model) if node.name}
        self._entries: Mapping[str, TensorEntry] = {}
        map_path = path.with_suffix(_MAP_SUFFIX)
        if map_path.is_file():
            # The file is a convenience: a broken one takes away the line of code, nothing else.
            with contextlib.suppress(ModelError):
                self._entries = _entries(read_name_map(map_path))

    def of_value(self, name: str) -> Place:
        """Return where a value is computed."""
        node = self._nodes.get(name)
        return Place() if node is None else self._place(node)

    def of_failure(self, message: str) -> Place:
        """Return the node an engine's message names."""
        match = _NODE.search(message)
        node = self._named.get(match["name"]) if match else None
        return Place() if node is None else self._place(node)

    def _place(self, node: ir.Node) -> Place:
        found = (self._entries.get(value.name or "") for value in node.outputs)
        entry = next((one for one in found if one is not None), None)
        if entry is not None:
            where = f"{entry.source}: {entry.code}" if entry.code else entry.source
            return Place(_name(node), node.op_type, entry.module, where)
        origin = read_origin(node.name or "", node.metadata_props)
        source = f"{origin.source}: {origin.code}" if origin.code else origin.source
        return Place(_name(node), node.op_type, origin.module, source)


def _name(node: ir.Node) -> str:
    """Return the name of a node, or that of what it computes."""
    return node.name or next((value.name for value in node.outputs if value.name), "")


def _entries(names: NameMap) -> dict[str, TensorEntry]:
    """Return what the map knows of each ONNX value; helpers have the entry of what they serve."""
    by_fx = {entry.fx: entry for entry in names.tensors}
    served = {one.onnx: by_fx[one.fx] for one in names.values if one.fx in by_fx}
    return served | names.by_onnx()
