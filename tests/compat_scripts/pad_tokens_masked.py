"""MagicONNX: the same padding, and no token attends to a padded one."""

import sys

import numpy as np
from magiconnx import OnnxGraph
from pad_tokens import pad

onnx_graph = OnnxGraph.parse(sys.argv[1])
old, new = pad(onnx_graph)
mask = np.zeros((1, 1, 1, new), dtype=np.float32)
mask[..., old:] = -10000
onnx_graph.add_initializer("padding_mask", mask)
for softmax in onnx_graph.get_nodes("Softmax"):
    add = onnx_graph.add_node(f"Add_before_{softmax.name}", "Add")
    onnx_graph.insert_node(softmax.name, add, mode="before")
    add.inputs.append("padding_mask")
onnx_graph.save(sys.argv[2])
