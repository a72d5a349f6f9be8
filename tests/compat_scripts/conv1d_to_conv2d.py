"""auto_optimizer: Conv1d becomes Conv2d between an Unsqueeze and a Squeeze."""

import sys

import numpy as np
from auto_optimizer import OnnxGraph, OnnxNode

g = OnnxGraph.parse(sys.argv[1])
for conv in g.get_nodes("Conv"):
    weight = g[conv.inputs[1]]
    if weight.value.ndim != 3:
        continue
    weight.value = np.expand_dims(weight.value, 2)
    conv["kernel_shape"] = [1, *conv["kernel_shape"]]
    for key, neutral in (("dilations", 1), ("strides", 1)):
        if key in conv.attrs:
            conv.attrs[key].insert(0, neutral)
    if "pads" in conv.attrs:
        left, right = conv["pads"]
        conv["pads"] = [0, left, 0, right]
    axes = g.add_initializer(f"axes_of_{conv.name}", np.array([2], dtype=np.int64))
    unsqueeze: OnnxNode = g.add_node(f"Unsqueeze_{conv.name}", "Unsqueeze")
    squeeze: OnnxNode = g.add_node(f"Squeeze_{conv.name}", "Squeeze")
    g.insert_node(conv.name, unsqueeze, mode="before")
    unsqueeze.inputs.append(axes.name)
    g.insert_node(conv.name, squeeze, refer_index=0, mode="after")
    squeeze.inputs.append(axes.name)
g.infer_shape()
g.save(sys.argv[2])
