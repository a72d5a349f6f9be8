"""An ONNX graph with every value it computes, and which of them come first after another."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from shipway.engines.operators import operators_in
from shipway.ops.kernel_library import libraries_of

__all__ = ["KnownGraph", "nearest", "run_all"]


class KnownGraph:
    """A graph, and its values for two sets of inputs.

    Args:
        proto: The model.
        feeds: The inputs of the study.
        others: Other inputs of the same shapes: what a constant that was left over comes from.
    """

    def __init__(self, proto, feeds, others):
        graph = proto.graph
        self.proto = proto
        self.nodes = list(graph.node)
        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.constants |= {
            node.output[0]: numpy_helper.to_array(node.attribute[0].t)
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self.outputs = [output.name for output in graph.output]
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.readers = {}
        for node in graph.node:
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
        self.values = run_all(proto, feeds)
        self.others = run_all(proto, others)
        self.inputs = set(feeds)
        self.computed = self._reach(set(feeds), forward=True)
        self.needed = self._reach(set(self.outputs), forward=False)

    def _reach(self, names, *, forward):
        """Return every value that depends on one of these, or that one of these depends on."""
        found = set(names)
        for node in self.nodes if forward else reversed(self.nodes):
            sources, targets = (node.input, node.output) if forward else (node.output, node.input)
            if found & set(filter(None, sources)):
                found |= set(filter(None, targets))
        return found

    def is_live(self, node):
        """Say whether the node computes something from the inputs that the outputs need."""
        return any(name in self.computed and name in self.needed for name in node.output)

    def is_float(self, name):
        value = self.values.get(name)
        return value is not None and value.dtype.kind == "f" and value.size > 1

    def weight(self, node, rank=2):
        """Return the position of the node's first constant of at least this rank, or None."""
        for position, name in enumerate(node.input):
            found = self.constants.get(name)
            if found is not None and found.ndim >= rank and found.dtype.kind == "f":
                return position
        return None

    def varying(self, node):
        """Return the positions of the node's inputs that depend on the model's inputs."""
        return [
            position
            for position, name in enumerate(node.input)
            if name in self.computed and self.is_float(name)
        ]


def run_all(proto, feeds):
    """Return every value of a graph, computed by ONNX Runtime without optimisation."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    names = [output.name for output in proto.graph.output]
    more = [
        name
        for node in proto.graph.node
        if node.op_type != "Constant"
        for name in node.output
        if name and name not in names
    ]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in more)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for library in libraries_of(operators_in(proto).values()):
        settings.register_custom_ops_library(str(library.path))
    session = ort.InferenceSession(
        shown.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    found = session.run([*names, *more], feeds)
    return {
        name: value
        for name, value in zip([*names, *more], found, strict=True)
        if isinstance(value, np.ndarray)
    } | dict(feeds)


def nearest(graph, values, shown):
    """Return the shown values that come first on the paths from some values, themselves included.

    Args:
        graph: A KnownGraph.
        values: Where to begin.
        shown: Names of the values that can be seen.
    """
    found, seen, waiting = set(), set(), list(values)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in shown:
            found.add(name)
        else:
            waiting += [
                output for node in graph.readers.get(name, ()) for output in node.output if output
            ]
    return found


def behind(graph, values):
    """Return every value that depends on one of these, themselves included."""
    found, waiting = set(), list(values)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [
                output for node in graph.readers.get(name, ()) for output in node.output if output
            ]
    return found
