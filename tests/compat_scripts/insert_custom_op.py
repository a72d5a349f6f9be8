"""auto_optimizer: a Gelu written out with Erf becomes one node of the runtime's own domain."""

import sys

import auto_optimizer

model = auto_optimizer.OnnxGraph.parse(sys.argv[1])
for erf in model.get_nodes("Erf"):
    div = model.get_prev_node(erf.inputs[0])
    add = model.get_next_nodes(erf.outputs[0])[0]
    mul = model.get_next_nodes(add.outputs[0])[0]
    half = model.get_next_nodes(mul.outputs[0])[0]
    gelu = model.add_node(erf.name.replace("Erf", "Gelu"), "Gelu", domain="com.microsoft")
    gelu.inputs, gelu.outputs = [div.inputs[0]], half.outputs
    for node in (div, erf, add, mul, half):
        model.remove(node.name, {})
model.update_map()
model.remove_unused_nodes()
model.save(sys.argv[2], save_as_external_data=False)
