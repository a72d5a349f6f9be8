"""Makes padding with zeros the padding of the convolution or the average pooling behind it."""

from __future__ import annotations

import onnx_ir as ir

from shipway.graph.patterns import private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]

_FIRST_PAD_WITH_INPUTS = 11
_FIRST_POOL_THAT_COUNTS_PADS = 7


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose the node with larger pads that reads what the Pad reads."""
    pad = private_producer(node.inputs[0], "Pad", view)
    shape = None if pad is None else view.shape(pad.inputs[0])
    if pad is None or shape is None or len(shape) < 3 or not _pads_zeros(pad, view):
        return None
    added, given = _added(pad, len(shape), view), _given(node, len(shape) - 2)
    if added is None or given is None:
        return None
    attributes = {name: one.value for name, one in node.attributes.items() if name != "auto_pad"}
    if node.op_type == "AveragePool":
        if not _counts_pads(node, given, view):
            return None
        attributes["count_include_pad"] = 1
    pads = [one + other for one, other in zip(added, given, strict=True)]
    if node.op_type == "AveragePool" and not _fits(node, pads):
        return None
    attributes["pads"] = pads
    fused = view.node(node.op_type, [pad.inputs[0], *node.inputs[1:]], attributes)
    return Rewrite((fused.outputs[0],), (fused,))


def _pads_zeros(pad: ir.Node, view: View) -> bool:
    if pad.attributes.get_string("mode", "constant") != "constant":
        return False
    if view.opset < _FIRST_PAD_WITH_INPUTS:
        return not pad.attributes.get_float("value", 0.0)
    if len(pad.inputs) < 3 or pad.inputs[2] is None:
        return True
    value = view.array(pad.inputs[2])
    return value is not None and not value.any()


def _added(pad: ir.Node, rank: int, view: View) -> list[int] | None:
    """Return the pads of the spatial axes, begins first; None where others are padded, or cut."""
    if view.opset < _FIRST_PAD_WITH_INPUTS:
        name = "pads" if "pads" in pad.attributes else "paddings"
        found: tuple[int, ...] | None = tuple(pad.attributes.get_ints(name) or ())
    else:
        found = view.knowledge.integers(pad.inputs[1])
    axes: tuple[int, ...] | None = tuple(range(rank))
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        axes = view.knowledge.integers(pad.inputs[3])
    if not found or not axes or len(found) != 2 * len(axes) or min(found) < 0:
        return None
    begins, ends = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        begins[axis], ends[axis] = found[index], found[len(axes) + index]
    if any((*begins[:2], *ends[:2])):
        return None
    return [*begins[2:], *ends[2:]]


def _given(node: ir.Node, count: int) -> list[int] | None:
    """Return the pads a node has already; None where they follow from the size of its input."""
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    if automatic == "VALID":
        return [0] * 2 * count
    if automatic != "NOTSET":
        return None
    return list(node.attributes.get_ints("pads") or [0] * 2 * count)


def _counts_pads(pool: ir.Node, given: list[int], view: View) -> bool:
    """Whether zeros that were averaged as numbers may be averaged as padding."""
    if view.opset < _FIRST_POOL_THAT_COUNTS_PADS or pool.attributes.get_int("ceil_mode"):
        return False
    return bool(pool.attributes.get_int("count_include_pad")) or not any(given)


def _fits(pool: ir.Node, pads: list[int]) -> bool:
    """Whether each pad is smaller than the window, as engines demand."""
    window = list(pool.attributes.get_ints("kernel_shape") or ())
    return all(pad < size for pad, size in zip(pads, [*window, *window], strict=True))


RULE = Rule(
    "fuse_pads",
    "reassociating",
    "Makes a Pad with zeros the padding of the Conv or AveragePool behind it.",
    ("Conv", "AveragePool"),
    propose,
)
