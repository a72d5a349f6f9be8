"""Where the tensors of an ONNX model come from: the name map, else what the exporter left inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.tapping import Tap
from shipway.export.name_map import read_name_map
from shipway.graph.segments import SegmentedGraph
from shipway.source.origins import Origin, read_origin
from shipway.tensors import dtype_of

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = ["Places", "weight_array"]


class Places:
    """Where each tensor of a graph comes from.

    Args:
        graph: The graph.
        name_map: The name map beside it, if there is one.

    Raises:
        ModelError: The name map cannot be read.
    """

    def __init__(self, graph: SegmentedGraph, name_map: Path | None) -> None:
        """Read the name map."""
        self._graph = graph
        known = read_name_map(name_map) if name_map is not None and name_map.is_file() else None
        self._tensors = {} if known is None else known.by_onnx()
        by_fx = {} if known is None else {entry.fx: entry for entry in known.tensors}
        self._helpers = {} if known is None else {entry.onnx: entry for entry in known.values}
        self._by_fx = by_fx

    def placed(self, tap: Tap) -> Tap:
        """Return a tap with its names, module and line."""
        entry = self._tensors.get(tap.name)
        if entry is not None:
            names = tuple(dict.fromkeys((tap.name, entry.fx, *tap.names)))
            return replace(
                tap,
                names=names,
                module=entry.module,
                module_class=entry.module_class,
                source=entry.source,
                code=entry.code,
            )
        own = tuple(dict.fromkeys((tap.name, *tap.names)))
        helper = self._helpers.get(tap.name)
        served = self._by_fx.get(helper.fx or "") if helper is not None else None
        if served is not None:
            return replace(
                tap,
                names=own,
                module=served.module,
                module_class=served.module_class,
                source=served.source,
                code=served.code,
            )
        origin = self.origin(tap.name)
        module = origin.module or (helper.module if helper is not None else "")
        return replace(tap, names=own, module=module, source=origin.source, code=origin.code)

    def origin(self, name: str) -> Origin:
        """Return what the node that computes a value says of itself."""
        index = self._graph.maker.get(name)
        if index is None:
            return Origin()
        node = self._graph.nodes[index]
        return read_origin(node.name, {one.key: one.value for one in node.metadata_props})

    def constant(self, name: str) -> NDArray[Any]:
        """Return the numbers of a weight."""
        return weight_array(self._graph.weights[name])


def weight_array(tensor: TensorProto) -> NDArray[Any]:
    """Return the numbers of a weight whose place, if it is external, is counted from the root."""
    from onnx import numpy_helper

    place = {entry.key: entry.value for entry in tensor.external_data}
    if not place:
        return np.asarray(numpy_helper.to_array(tensor))
    dtype = dtype_of(tensor.data_type).numpy
    file = Path("/") / place["location"]
    length, offset = int(place.get("length", -1)), int(place.get("offset", 0))
    found = np.fromfile(file, np.uint8, count=length, offset=offset)
    return found.view(dtype).reshape(tuple(tensor.dims))
