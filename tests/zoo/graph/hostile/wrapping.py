"""A grown graph taken apart into functions: stretches of it, and the whole, which is called twice."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from hostile.casebook import Feeds

DOMAIN = "grown"
Node = onnx.NodeProto


def called_twice(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """All nodes become a function of functions, called at two sets of sizes.

    Constants are nodes in the bodies or come in from outside, as it falls.
    """
    rng = np.random.default_rng(seed)
    graph, stored = model.graph, {item.name: item for item in model.graph.initializer}
    inside = {name for name in stored if rng.random() < 0.6}
    names = [item.name for item in graph.input], [item.name for item in graph.output]
    outside = [name for name in stored if name not in inside]
    functions, body = [], []
    for stretch in stretches(list(graph.node), rng):
        rest = [node for node in graph.node if node not in stretch]
        read = {name for node in rest for name in node.input} | set(names[1])
        call, function = outlined(stretch, read, f"S{len(functions)}", stored, inside)
        functions.append(function)
        body.append(call)
    whole = function_of("Whole", ([*names[0], *outside], names[1]), body)
    twice = onnx.ModelProto()
    twice.CopyFrom(model)
    del twice.graph.node[:], twice.graph.initializer[:]
    twice.graph.initializer.extend(stored[name] for name in outside)
    for item in (*graph.input, *graph.output):
        target = twice.graph.input if item.name in names[0] else twice.graph.output
        target.append(renamed(item))
    for suffix in ("", "2"):
        reads = [*(name + suffix for name in names[0]), *outside]
        makes = [name + suffix for name in names[1]]
        twice.graph.node.append(helper.make_node("Whole", reads, makes, domain=DOMAIN))
    twice.functions.extend([*functions, whole])
    twice.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return twice


def renamed(item: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The same input or output for the second call, with sizes of its own."""
    other = onnx.ValueInfoProto()
    other.CopyFrom(item)
    other.name += "2"
    for dim in other.type.tensor_type.shape.dim:
        if dim.dim_param:
            dim.dim_param += "2"
    return other


def stretches(nodes: list[Node], rng: np.random.Generator) -> list[list[Node]]:
    found = []
    while nodes:
        count = int(rng.integers(1, 8))
        found.append(nodes[:count])
        nodes = nodes[count:]
    return found


def outlined(
    nodes: Sequence[Node],
    read_outside: set[str],
    name: str,
    stored: Mapping[str, onnx.TensorProto],
    inside: set[str],
) -> tuple[Node, onnx.FunctionProto]:
    made = {value for node in nodes for value in node.output}
    read = dict.fromkeys(value for node in nodes for value in node.input if value)
    constants = [value for value in read if value in inside]
    inputs = [value for value in read if value not in made and value not in inside]
    outputs = [value for node in nodes for value in node.output if value in read_outside]
    body = [helper.make_node("Constant", [], [one], value=stored[one]) for one in constants]
    call = helper.make_node(name, inputs, outputs, domain=DOMAIN)
    return call, function_of(name, (inputs, outputs), [*body, *nodes])


def function_of(
    name: str, ends: tuple[Sequence[str], Sequence[str]], nodes: Sequence[Node]
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_function(DOMAIN, name, *ends, nodes, imports)


def paired(feeds: Sequence[Feeds]) -> list[Feeds]:
    """Each set of inputs beside the next one."""
    shifted = [*feeds[1:], feeds[0]]
    return [
        {**one, **{f"{name}2": value for name, value in other.items()}}
        for one, other in zip(feeds, shifted, strict=True)
    ]
