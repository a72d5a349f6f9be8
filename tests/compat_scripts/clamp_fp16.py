"""auto_optimizer: constants beyond what fp16 holds are clamped, and every node's domain emptied."""

import sys
from copy import deepcopy

import numpy as np
from auto_optimizer import OnnxGraph

FP16_MAX = 65504


def fix_constants(graph):
    mul_inputs = [name for node in graph.get_nodes("Mul") for name in node.inputs]
    for initializer in graph.initializers:
        if initializer.name not in mul_inputs:
            continue
        fixed = deepcopy(initializer.value)
        too_large = np.abs(fixed) > FP16_MAX
        if np.sum(too_large) > 0:
            print(f"Fix value node: {initializer}")
            fixed[too_large] = np.sign(fixed[too_large]) * FP16_MAX
            initializer.value = fixed


def delete_domain(graph):
    for node in graph.nodes:
        if node.domain != "":
            node.domain = ""
    while len(graph.opset_imports) > 1:
        graph.opset_imports.pop(1)


onnx_graph = OnnxGraph.parse(sys.argv[1])
fix_constants(onnx_graph)
delete_domain(onnx_graph)
onnx_graph.save(sys.argv[2])
