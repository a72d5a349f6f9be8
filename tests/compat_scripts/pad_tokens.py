"""MagicONNX: tokens of a vision transformer are padded to a multiple of 16, without a mask."""

import sys

import numpy as np
from magiconnx import OnnxGraph

MULTIPLE = 16


def rewrite_reshapes(graph, old, new):
    for node in graph.get_nodes("Reshape"):
        target = graph[node.inputs[1]]
        shape = target.value.copy()
        shape[shape == old] = new
        target.value = shape


def append_zero_tokens(graph, count):
    concat = graph["Concat_24"]
    shape = list(graph[concat.inputs[0]].value.shape)
    shape[-2] = count
    graph.add_initializer("166", np.zeros(shape, dtype=np.float32))
    concat.inputs.append("166")


def pad(graph):
    embedding = graph["pos_embed"]
    old = embedding.value.shape[-2]
    new = (old + MULTIPLE - 1) // MULTIPLE * MULTIPLE
    rewrite_reshapes(graph, old, new)
    append_zero_tokens(graph, new - old)
    padded = np.zeros((1, new, embedding.value.shape[-1]), dtype=np.float32)
    padded[:, :old] = embedding.value
    embedding.value = padded
    return old, new


if __name__ == "__main__":
    onnx_graph = OnnxGraph.parse(sys.argv[1])
    print("tokens {} -> {}".format(*pad(onnx_graph)))
    onnx_graph.save(sys.argv[2])
