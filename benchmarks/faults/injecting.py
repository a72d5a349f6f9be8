"""The makers of the faults that broken.py lists, and the draw among them."""

import numpy as np
import onnx
from onnx import numpy_helper

from faults.broken import KINDS, Copy, attribute, opset

__all__ = ["draw_faults"]

GAIN = 1.02
NOISE = 0.01
EPSILON = 0.05
CLIP = 0.6
LEAK = 0.01
LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
BENT = {
    "Clip", "Elu", "Gelu", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Softplus", "Tanh",
}  # fmt: skip
NUMERIC = LINEAR | BENT | {"Add", "Div", "LayerNormalization", "Mul", "Softmax", "Sqrt", "Sub"}


def gain(graph, index, _random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if node.op_type in LINEAR and graph.weight(node) is not None:
        for position, name in enumerate(node.input):
            if name in graph.constants:
                copy.set_constant(position, graph.constants[name] * GAIN)
        return copy.fault("gain", f"weight and bias * {GAIN}")
    if node.op_type in {"Mul", "Div"} and len(graph.varying(node)) == 1:
        for position, name in enumerate(node.input):
            found = graph.constants.get(name)
            if found is not None and found.size == 1 and found.dtype.kind == "f":
                copy.set_constant(position, found * GAIN)
                return copy.fault("gain", f"factor * {GAIN}")
    return None


def output_axis(node):
    """Return along which axis of its weight a linear operator has its output channels."""
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}[node.op_type]


def channel(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    position = graph.weight(node) if node.op_type in LINEAR else None
    if position is None or (node.op_type == "MatMul" and position == 0):
        return None
    weight = np.moveaxis(graph.constants[node.input[position]].copy(), output_axis(node), 0)
    one = int(random.integers(len(weight)))
    if len(weight) < 4:
        return None
    weight[one] = 0
    copy.set_constant(position, np.moveaxis(weight, 0, output_axis(node)))
    bias = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if bias is not None and bias.size == len(weight):
        changed = bias.copy()
        changed.reshape(-1)[one] = 0
        copy.set_constant(2, changed)
    return copy.fault("channel", f"channel {one} is 0")


def noise(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    position = graph.weight(node)
    if position is None or node.op_type not in LINEAR | {"GRU", "LSTM"}:
        return None
    weight = graph.constants[node.input[position]]
    copy.set_constant(
        position, weight + random.standard_normal(weight.shape) * weight.std() * NOISE
    )
    return copy.fault("noise", f"{NOISE:.0%} noise on the weight")


def epsilon(graph, index, _random):
    node, copy = graph.nodes[index], Copy(graph, index)
    normalizes = {"BatchNormalization", "InstanceNormalization", "LayerNormalization"}
    if node.op_type in normalizes:
        copy.set_attribute("epsilon", EPSILON)
        return copy.fault(
            "epsilon",
            f"epsilon {attribute(node, 'epsilon', 1e-5):.0e} is {EPSILON}",
        )
    reads_root = any(reader.op_type == "Sqrt" for reader in graph.readers.get(node.output[0], ()))
    if node.op_type == "Add" and reads_root:
        for position, name in enumerate(node.input):
            found = graph.constants.get(name)
            if found is not None and found.size == 1 and 0 < float(found.reshape(())) < EPSILON:
                copy.set_constant(position, np.full_like(found, EPSILON))
                return copy.fault("epsilon", f"epsilon is {EPSILON}")
    return None


def gelu_tanh(graph, index, _random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if node.op_type != "Gelu" or attribute(node, "approximate", b"none") == b"tanh":
        return None
    copy.set_attribute("approximate", "tanh")
    return copy.fault("gelu_tanh", "approximate is tanh")


def axis(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if node.op_type not in {"LogSoftmax", "Softmax"}:
        return None
    shape = graph.values[node.output[0]].shape
    right = attribute(node, "axis", -1) % len(shape)
    others = [one for one, size in enumerate(shape) if size > 1 and one != right]
    if not others:
        return None
    wrong = int(random.choice(others))
    copy.set_attribute("axis", wrong)
    return copy.fault("axis", f"axis {wrong} for {right}")


def swapped(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    varying = graph.varying(node)
    shapes = [graph.values[node.input[position]].shape for position in varying]
    ordered = {"Concat", "Div", "MatMul", "Pow", "Sub"}
    if node.op_type in ordered and len(varying) > 1 and shapes[0] == shapes[1]:
        first, second = varying[:2]
        inputs = copy.node.input
        inputs[first], inputs[second] = inputs[second], inputs[first]
        also = {"layout"} if node.op_type == "Concat" else set()
        return copy.fault("swapped", f"operands {first} and {second}", also=also)
    return swapped_siblings(graph, index, random)


def swapped_siblings(graph, index, random):
    """Swap what a node and another one of the same kind, on the same input, compute: q and k."""
    node, copy = graph.nodes[index], Copy(graph, index)
    name = node.output[0]
    if node.op_type not in {"Conv", "Gather", "Gemm", "MatMul", "Slice"} or not graph.is_float(
        name
    ):
        return None
    alike = [
        other
        for other, found in enumerate(graph.nodes)
        if other != index
        and found.op_type == node.op_type
        and list(found.input[:1]) == list(node.input[:1])
        and graph.is_live(found)
        and graph.values[found.output[0]].shape == graph.values[name].shape
        and not np.array_equal(graph.values[found.output[0]], graph.values[name])
    ]
    if not alike:
        return None
    other = int(random.choice(alike))
    sibling = graph.nodes[other].output[0]
    copy.node.output[0] = sibling
    copy.proto.graph.node[other].output[0] = name
    if other > index:  # the later node now computes what the earlier one's readers need
        later = onnx.NodeProto()
        later.CopyFrom(copy.proto.graph.node[other])
        if not set(later.input) <= ready_before(graph, index):
            return None
        del copy.proto.graph.node[other]
        copy.proto.graph.node.insert(index, later)
    elif not set(copy.node.input) <= ready_before(graph, other):
        return None
    else:
        earlier = onnx.NodeProto()
        earlier.CopyFrom(copy.node)
        del copy.proto.graph.node[index]
        copy.proto.graph.node.insert(other, earlier)
    return copy.fault("swapped", f"with {sibling}", values=(name, sibling))


def ready_before(graph, index):
    """Return the names that are known before a node runs."""
    names = set(graph.constants) | graph.inputs | {""}
    return names.union(*(node.output for node in graph.nodes[:index]))


def transposed(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if node.op_type != "Transpose" or not graph.is_float(node.output[0]):
        return None
    before, after = graph.values[node.input[0]], graph.values[node.output[0]]
    if np.array_equal(before.ravel(), after.ravel()):
        return None  # nothing is moved
    right = list(attribute(node, "perm", range(before.ndim)[::-1]))
    others = [
        swap
        for first in range(before.ndim)
        for second in range(first)
        if (swap := swapped_places(right, first, second)) != right
        and before.transpose(swap).shape == after.shape
        and not np.array_equal(before.transpose(swap), after)
    ]
    if others:
        wrong = others[int(random.integers(len(others)))]
        copy.set_attribute("perm", wrong)
        return copy.fault("transposed", f"perm {wrong} for {right}")
    name = f"fault.shape.{node.output[0]}"
    shape = numpy_helper.from_array(np.array(after.shape, np.int64), name)
    copy.proto.graph.initializer.append(shape)
    copy.replace("Reshape", [node.input[0], name])
    return copy.fault("transposed", "reshaped instead")


def swapped_places(items, first, second):
    items = list(items)
    items[first], items[second] = items[second], items[first]
    return items


def clipped(graph, index, _random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if node.op_type not in BENT or not graph.is_float(node.output[0]):
        return None
    value = graph.values[node.output[0]]
    low, high = CLIP * min(0.0, float(value.min())), CLIP * float(value.max())
    if high <= max(low, 0):
        return None
    if opset(graph.proto) < 11:  # bounds are attributes there
        copy.append("Clip", [], min=low, max=high)
    else:
        copy.append("Clip", [low, high])
    return copy.fault("clipped", f"to [{low:.3g}, {high:.3g}]")


def nan(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if node.op_type not in NUMERIC or not graph.is_float(node.output[0]):
        return None
    values = np.zeros(graph.values[node.output[0]].shape)
    place = int(random.integers(values.size))
    values.reshape(-1)[place] = np.nan
    copy.append("Add", [values])
    return copy.fault("nan", f"NaN in element {place}")


def no_bias(graph, index, _random):
    node, copy = graph.nodes[index], Copy(graph, index)
    position = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "LayerNormalization": 2}.get(node.op_type)
    if node.op_type == "Add" and len(graph.varying(node)) == 1:
        names = [name in graph.constants and graph.constants[name].size > 1 for name in node.input]
        position = names.index(True) if any(names) else None
    if position is None or len(node.input) <= position or not graph.is_float(node.output[0]):
        return None
    bias = graph.constants.get(node.input[position])
    if bias is None:
        return None
    copy.set_constant(position, np.zeros_like(bias))
    return copy.fault("no_bias", "bias is 0")


def stale(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    varying = graph.varying(node)
    if node.op_type in {"Add", "Concat", "Div", "MatMul", "Mul", "Sub"} and len(varying) > 1:
        position = int(random.choice(varying))
        name = node.input[position]
        if graph.others[name].shape != graph.values[name].shape:
            return None
        copy.set_constant(position, graph.others[name])
        also = {"channel"} if node.op_type == "Concat" else set()
        return copy.fault("stale", f"operand {position} of another input", also=also)
    return wrong_weight(graph, index, random)


def wrong_weight(graph, index, random):
    node, copy = graph.nodes[index], Copy(graph, index)
    position = graph.weight(node) if node.op_type in LINEAR | {"GRU", "LSTM"} else None
    if position is None:
        return None
    own = graph.constants[node.input[position]]
    alike = [
        name
        for name, found in graph.constants.items()
        if found.shape == own.shape and found.dtype == own.dtype and not np.array_equal(found, own)
    ]
    if not alike:
        return None
    other = alike[int(random.integers(len(alike)))]
    copy.set_constant(position, graph.constants[other])
    return copy.fault("stale", f"weight {other}")


def activation(graph, index, _random):
    node, copy = graph.nodes[index], Copy(graph, index)
    if not graph.is_float(node.output[0]):
        return None
    if node.op_type == "Relu":
        copy.replace("LeakyRelu", node.input[:1], alpha=LEAK)
        return copy.fault("activation", f"leaks {LEAK}")
    if node.op_type in {"LeakyRelu", "PRelu"}:
        copy.replace("Relu", node.input[:1])
        return copy.fault("activation", "does not leak")
    if node.op_type == "Sigmoid":
        copy.replace("HardSigmoid", node.input[:1], alpha=0.2, beta=0.5)
        return copy.fault("activation", "hard sigmoid", also={"approximation"})
    return None


MAKERS = {
    "gain": gain,
    "channel": channel,
    "noise": noise,
    "epsilon": epsilon,
    "gelu_tanh": gelu_tanh,
    "axis": axis,
    "swapped": swapped,
    "transposed": transposed,
    "clipped": clipped,
    "nan": nan,
    "no_bias": no_bias,
    "stale": stale,
    "activation": activation,
}


def draw_faults(graph, count, seed):
    """Return up to `count` faults: each kind in turn, each at a node drawn at random.

    Args:
        graph: A KnownGraph.
        count: How many.
        seed: Of the draw; the same one gives the same faults.
    """
    random = np.random.default_rng(seed)
    live = [index for index, node in enumerate(graph.nodes) if graph.is_live(node)]
    waiting = {kind: list(random.permutation(live)) for kind in KINDS}
    found = []
    while len(found) < count and any(waiting.values()):
        for kind in KINDS:
            fault = None
            while waiting[kind] and fault is None:
                fault = MAKERS[kind](graph, int(waiting[kind].pop()), random)
            if fault is not None and len(found) < count:
                found.append(fault)
    return found
