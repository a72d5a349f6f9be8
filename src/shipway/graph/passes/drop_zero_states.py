"""Drops initial states of recurrent layers that are zero: that is what none means."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.graph.rules import Rewrite, Rule
from shipway.graph.uniform import filling_of
from shipway.graph.view import View

__all__ = ["RULE"]

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def propose(node: ir.Node, view: View) -> Rewrite | None:
    """Propose the layer without states that are certainly zero."""
    inputs = list(node.inputs)
    for index in _STATES[node.op_type]:
        if index < len(inputs) and inputs[index] is not None and _is_zero(inputs[index], view):
            inputs[index] = None
    if inputs == list(node.inputs):
        return None
    while inputs and inputs[-1] is None:
        inputs.pop()
    attributes = {name: one.value for name, one in node.attributes.items()}
    layer = view.node(node.op_type, inputs, attributes, outputs=len(node.outputs))
    for old, new in zip(node.outputs, layer.outputs, strict=True):
        if not old.name:
            new.name = ""
    return Rewrite(tuple(layer.outputs), (layer,))


def _is_zero(value: ir.Value | None, view: View) -> bool:
    number = filling_of(value, view)
    return number is not None and number == 0 and not np.signbit(number)


RULE = Rule(
    "drop_zero_states",
    "exact",
    "Drops initial states of LSTM, GRU and RNN that are zero, which is what leaving them out means.",
    tuple(_STATES),
    propose,
)
