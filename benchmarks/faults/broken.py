"""Thirteen kinds of fault, put into a copy of an ONNX graph: what an engine that has one computes.

The value at fault keeps its name, so that its place is known: where a node has to be added behind
another, the other's output is renamed. CAUSES says beforehand which class of
`shipway.compare.causes` names a fault rightly:

=============  ================================================  ==========================
kind           what is done                                      named rightly as
=============  ================================================  ==========================
gain           weight and bias, or a scalar factor, * 1.02       gain
channel        one channel's weights and bias set to 0           channel
noise          1 % noise on a weight                             input
epsilon        0.05 in a normalization                           approximation
gelu_tanh      the tanh approximation of GELU                    approximation
axis           softmax along another axis                        layout
swapped        operands, or two like siblings, swapped           input (Concat: or layout)
transposed     another permutation, or the numbers not moved     layout
clipped        an activation cut off at 60 % of its range        saturation or activation
nan            NaN in one element                                nan
no_bias        a bias set to 0                                   offset
stale          an operand left over from another input, or the   input (Concat: or channel)
               weight of another layer
activation     ReLU leaks, PReLU does not, a hard sigmoid        activation (hard sigmoid: or
                                                                 approximation)
=============  ================================================  ==========================

"Saturation or activation": where ReLU becomes ReLU6 both are said. A Concat that swaps its operands
has the right numbers in other places, and one that takes a stale one is wrong in a tile.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["BEFORE", "CAUSES", "KINDS", "Copy", "Fault", "attribute", "opset"]

CAUSES = {
    "gain": {"gain"},
    "channel": {"channel"},
    "noise": {"input"},
    "epsilon": {"approximation"},
    "gelu_tanh": {"approximation"},
    "axis": {"layout"},
    "swapped": {"input"},
    "transposed": {"layout"},
    "clipped": {"saturation", "activation"},
    "nan": {"nan"},
    "no_bias": {"offset"},
    "stale": {"input"},
    "activation": {"activation"},
}
KINDS = tuple(CAUSES)
BEFORE = ".right"
"""Ends the name of a value that is right and lies before the one at fault, which has its name."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the graph that has it.

    Args:
        kind: One of KINDS.
        node: Name of the value that the changed node computes.
        op: Its operator.
        values: The values at fault.
        causes: The classes that name it rightly.
        proto: The broken model.
        detail: What was done.
    """

    kind: str
    node: str
    op: str
    values: tuple
    causes: frozenset
    proto: onnx.ModelProto
    detail: str


class Copy:
    """A copy of a graph with one node to change."""

    def __init__(self, graph, index):
        self.graph = graph
        self.index = index
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(graph.proto)
        self.node = self.proto.graph.node[index]

    def set_constant(self, position, array):
        """Give the node another constant; its other readers keep the old one."""
        old = self.node.input[position]
        like = self.graph.constants[old] if old in self.graph.constants else self.graph.values[old]
        name = f"fault.{position}.{old}"
        tensor = numpy_helper.from_array(np.asarray(array, like.dtype, order="C"), name)
        self.proto.graph.initializer.append(tensor)
        self.node.input[position] = name

    def set_attribute(self, name, value):
        for one in list(self.node.attribute):
            if one.name == name:
                self.node.attribute.remove(one)
        self.node.attribute.append(helper.make_attribute(name, value))

    def append(self, op, constants, **attributes):
        """Put an operator behind the node's first output; its result takes that name."""
        name = self.node.output[0]
        self.node.output[0] = name + BEFORE
        dtype = self.graph.values[name].dtype
        inputs = [self.node.output[0]]
        for position, constant in enumerate(constants):
            inputs.append(f"fault.{position}.{name}")
            tensor = numpy_helper.from_array(np.asarray(constant, dtype), inputs[-1])
            self.proto.graph.initializer.append(tensor)
        added = helper.make_node(op, inputs, [name], f"fault.{name}", **attributes)
        self.proto.graph.node.insert(self.index + 1, added)

    def replace(self, op, inputs, **attributes):
        """Put another operator in the node's place."""
        made = helper.make_node(op, inputs, list(self.node.output), self.node.name, **attributes)
        self.node.CopyFrom(made)

    def fault(self, kind, detail, *, values=(), also=()):
        """Return what was made.

        Args:
            kind: Kind of the fault.
            detail: What was done.
            values: The values at fault; the node's own outputs where none are given.
            also: Classes that name this one rightly besides those of its kind.
        """
        node = self.graph.nodes[self.index]
        outputs = values or tuple(filter(None, node.output))
        causes = frozenset(CAUSES[kind]).union(also)
        return Fault(kind, node.output[0], node.op_type, outputs, causes, self.proto, detail)


def attribute(node, name, default=None):
    for one in node.attribute:
        if one.name == name:
            return helper.get_attribute_value(one)
    return default


def opset(proto):
    return next(one.version for one in proto.opset_import if one.domain in {"", "ai.onnx"})
