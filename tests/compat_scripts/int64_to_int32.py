"""MagicONNX: indices and casts of int64 become int32, a Cast goes behind every Shape."""

import sys

import numpy as np
from magiconnx import OnnxGraph

INT64, INT32 = 7, 6


def fix_casts(graph):
    for node in graph.get_nodes("Cast"):
        if node["to"] == INT64:
            node._node.attribute[0].i = INT32


def fix_shapes(graph):
    for node in graph.get_nodes("Shape"):
        cast = graph.add_node(f"Cast_after_{node.name}", "Cast", {"to": INT32})
        graph.insert_node(node.name, cast, mode="after")


def fix_constants(graph):
    for op_type in ("Initializer", "Constant"):
        for node in graph.get_nodes(op_type):
            if np.issubdtype(node.value.dtype, np.int64):
                node.value = np.clip(node.value, -(2**31), 2**31 - 1).astype(np.int32)


if __name__ == "__main__":
    onnx_graph = OnnxGraph(sys.argv[1], rewrite_node=True)
    fix_casts(onnx_graph)
    fix_shapes(onnx_graph)
    fix_constants(onnx_graph)
    onnx_graph.save(sys.argv[2])
