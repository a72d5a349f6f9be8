"""auto_optimizer: a LayerNorm whose Sub was written twice gets the form compilers recognise."""

import sys

from auto_optimizer import OnnxGraph


def find_twins(graph):
    for mean in graph.get_nodes("ReduceMean"):
        subs = [node for node in graph.get_next_nodes(mean.outputs[0]) if node.op_type == "Sub"]
        if len(subs) == 2 and subs[0].inputs == subs[1].inputs:
            yield subs


g = OnnxGraph.parse(sys.argv[1])
for keep, drop in find_twins(g):
    for reader in g.get_next_nodes(drop.outputs[0]):
        for position in reader.get_input_ids(drop.outputs[0]):
            reader.inputs[position] = keep.outputs[0]
    g.remove(drop.name, {})
for power in g.get_nodes("Mul"):
    if power.inputs[0] == power.inputs[1]:
        two = g.add_initializer(f"{power.name}_two", g["epsilon"].value.dtype.type(2).reshape(()))
        new = g.add_node(f"Pow_for_{power.name}", "Pow")
        g[power.name] = new
        new.inputs[1] = two.name
g.save(sys.argv[2])
