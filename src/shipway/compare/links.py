"""Leads from the names of an ONNX model to those of the program it was exported from."""

from __future__ import annotations

from shipway.export.name_map import NameMap

__all__ = ["explain_values", "link_names"]


def link_names(name_map: NameMap) -> dict[str, str]:
    """Return the program's name of each ONNX value that holds one of its tensors.

    Args:
        name_map: The map that was written at the export, and extended by each edit since.

    Example:
        >>> from shipway.export.name_map import TensorEntry
        >>> entry = TensorEntry("relu_1", "aten.relu.default", "float32", (2,), "kept", onnx="y")
        >>> link_names(NameMap("m.onnx", "m.pt2", "torch.export", (entry,), ()))
        {'y': 'relu_1'}
    """
    links = {entry.onnx: entry.fx for entry in name_map.tensors if entry.onnx is not None}
    for entry in name_map.tensors:
        if entry.alias is not None:
            links.setdefault(entry.alias, entry.fx)
    return links


def explain_values(name_map: NameMap) -> dict[str, str]:
    """Say of each ONNX value that is no tensor of the program why there is nothing to compare it with."""
    return {
        value.onnx: f"a step inside '{value.fx}', whose result is compared"
        if value.fx
        else "a value the export made, which is no tensor of the program"
        for value in name_map.values
    }
