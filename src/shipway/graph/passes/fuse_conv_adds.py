"""Makes the bias of a convolution of what is added to each of its channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.patterns import operands, private_producer
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.view import View

__all__ = ["RULE"]


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose a Conv with a bias, or with the sum of two."""
    for value, added in operands(node):
        conv = private_producer(value, "Conv", view, "ConvTranspose")
        shape, number = view.shape(value), view.array(added)
        if conv is None or shape is None or number is None or shape != view.shape(node.outputs[0]):
            continue
        channels = shape[1]
        if not isinstance(channels, int) or not _is_per_channel(number.shape, channels, len(shape)):
            continue
        bias = np.broadcast_to(number.reshape(-1), (channels,))
        if len(conv.inputs) > 2 and conv.inputs[2] is not None:
            given = view.array(conv.inputs[2])
            if given is None:
                continue
            bias = bias + given
        attributes = {name: one.value for name, one in conv.attributes.items()}
        inputs = [conv.inputs[0], conv.inputs[1], view.constant(bias.astype(number.dtype))]
        fused = view.node(conv.op_type, inputs, attributes)
        return Rewrite((fused.outputs[0],), (fused,))
    return None


def _is_per_channel(shape: tuple[int, ...], channels: int, rank: int) -> bool:
    """Whether a constant has one number for all, or one for each channel and no more."""
    padded = (1,) * (rank - len(shape)) + shape
    return len(padded) == rank and padded in {
        (1,) * rank,
        (1, channels, *(1,) * (rank - 2)),
    }


RULE = Rule(
    "fuse_conv_adds",
    "reassociating",
    "Makes a constant that is added to each channel the bias of the Conv or ConvTranspose before it.",
    ("Add",),
    propose,
)
