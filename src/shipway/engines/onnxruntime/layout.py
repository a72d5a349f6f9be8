"""The blocked layout in which ONNX Runtime convolves, "NCHWc": 8 or 16 channels lie together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.engines.onnxruntime.runtime import CPU, runtime
from shipway.graph.segments import SegmentedGraph

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = [
    "NCHWC",
    "REORDERS",
    "Blocked",
    "blocked_names",
    "blocked_values",
    "plain_layout",
    "width",
]

NCHWC = "com.microsoft.nchwc"
"""Domain of the operators that compute in it."""
REORDERS = ("ReorderInput", "ReorderOutput")
"""Those that bring a tensor into it, and out of it."""

_CHANNELS_PROBED = 4
_PLAIN_RANK = 4


@functools.cache
def width() -> int:
    """Return how many channels lie together on this processor: ONNX Runtime is asked."""
    from onnx import ValueInfoProto, helper

    node = helper.make_node("ReorderInput", ["x"], ["y"], domain=NCHWC)
    value = helper.make_tensor_value_info("x", 1, [1, _CHANNELS_PROBED, 1, 1])
    graph = helper.make_graph([node], "probe", [value], [ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(NCHWC, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = runtime().InferenceSession(model.SerializeToString(), providers=[CPU])
    (blocked,) = session.run(None, {"x": np.zeros((1, _CHANNELS_PROBED, 1, 1), np.float32)})
    return int(blocked.shape[1])


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value in the blocked layout.

    Args:
        channels: How many channels it really has; None: not known before it is run.
        like: A plain value with as many channels; "" where `channels` says it, or nothing does.
        channels_last: It is handed out as NHWC: that is how the model has this tensor.
    """

    channels: int | None = None
    like: str = ""
    channels_last: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the number of channels can be told."""
        return self.channels is not None or self.like != ""


def plain_layout(
    tensor: NDArray[Any], blocked: Blocked, shape_of: Callable[[str], tuple[int, ...]]
) -> NDArray[Any]:
    """Return a blocked tensor as the model has it, in memory of its own.

    Args:
        tensor: Shape [n, c, h, w] as ONNX Runtime says it, c a multiple of the width; or
            [n, c/width, h, w, width].
        blocked: What is known of it. Where that is nothing, the filling of the last block is
            handed out too.
        shape_of: Tells the shape of the value it is like.
    """
    inner = width()
    n, h, w = tensor.shape[0], *tensor.shape[2:4]
    blocks = tensor.shape[1] if tensor.ndim > _PLAIN_RANK else tensor.shape[1] // inner
    plain = tensor.reshape(n, blocks, h, w, inner).transpose(0, 1, 4, 2, 3)
    plain = plain.reshape(n, blocks * inner, h, w)
    channels = blocked.channels
    if blocked.like:
        shape = shape_of(blocked.like)
        channels = shape[-1 if blocked.channels_last else 1]
    plain = plain[:, :channels]
    return np.ascontiguousarray(plain.transpose(0, 2, 3, 1) if blocked.channels_last else plain)


def blocked_names(graph: SegmentedGraph) -> set[str]:
    """Return the values of an optimised graph that are in the blocked layout."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.domain == NCHWC:
            makes = node.op_type != "ReorderOutput"
        else:
            # What works on each element alone reads blocked tensors as they are.
            makes = any(name in found for name in node.input)
        if makes:
            found.update(filter(None, node.output))
    return found


def blocked_values(
    graph: SegmentedGraph, names: Collection[str], weight_channels: Callable[[str], int | None]
) -> dict[str, Blocked]:
    """Return what is known of every blocked value.

    Args:
        graph: An optimised graph.
        names: What `blocked_names` found in it.
        weight_channels: Tells the channels of what a convolution makes by the original's weights:
            those of the graph are padded.
    """
    found: dict[str, Blocked] = {}
    for node in graph.nodes:
        if node.output[0] in names:
            found[node.output[0]] = _describe(node, graph, found, weight_channels)
    for node in reversed(graph.nodes):
        if node.domain == NCHWC and node.op_type == "ReorderOutput":
            channels = next(one.i for one in node.attribute if one.name == "channels")
            found[node.input[0]] = Blocked(channels)
    return found


def _describe(
    node: NodeProto,
    graph: SegmentedGraph,
    known: Mapping[str, Blocked],
    weight_channels: Callable[[str], int | None],
) -> Blocked:
    parts = [known[name] for name in node.input if name in known]
    if node.op_type == "ReorderInput":
        is_last = any(one.name == "channels_last" and one.i for one in node.attribute)
        return _like(node.input[0], graph, channels_last=is_last)
    if node.op_type == "Concat":
        counts = [part.channels for part in parts]
        return Blocked(None if None in counts else sum(filter(None, counts)))
    if node.domain == NCHWC and node.op_type == "Conv":
        weight = graph.weights.get(node.input[1])
        padded = int(weight.dims[0]) if weight is not None else None
        return Blocked(weight_channels(node.output[0]) or padded)
    first = next((part for part in parts if part.is_known), Blocked())
    if first.channels_last:
        return Blocked(first.channels)  # only what was just brought in is handed out as it came
    return first


def _like(name: str, graph: SegmentedGraph, *, channels_last: bool) -> Blocked:
    kind = graph.types.get(name)
    dims = () if kind is None else kind.tensor_type.shape.dim
    declared = dims[-1 if channels_last else 1].dim_value if len(dims) else 0
    return Blocked(declared or None, "" if declared else name, channels_last)
