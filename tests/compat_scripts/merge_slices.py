"""MagicONNX: a Slice behind a Slice becomes one Slice with both ranges."""

import sys

import numpy as np
from magiconnx import OnnxGraph

graph = OnnxGraph(sys.argv[1])
gone = []
for first in graph.get_nodes("Slice"):
    if first.name in gone:
        continue
    followers = graph.get_next_nodes(first.name)
    if len(followers) != 1 or followers[0].op_type != "Slice":
        continue
    second = followers[0]
    for idx in range(1, 5):
        values = [graph[node.inputs[idx]].value for node in (first, second)]
        name = f"{first.name}_merged_{idx}"
        graph.add_initializer(name, np.concatenate(values, axis=0))
        first.set_input(idx, name)
    graph.del_node(second.name, maps={0: 0})
    gone.append(second.name)
print(f"merged {len(gone)} slices")
graph.save(sys.argv[2])
