"""auto_optimizer: Gathers of every index of one axis become one Split and Squeezes."""

import sys

import numpy as np
from auto_optimizer import OnnxGraph
from auto_optimizer.graph_refactor import Initializer

model = OnnxGraph.parse(sys.argv[1])
groups = {}
for gather in model.get_nodes("Gather"):
    index = model.get_node(gather.inputs[1], node_type=Initializer)
    if index is not None and index.value.ndim == 0:
        key = (gather.inputs[0], gather.attrs.get("axis", 0))
        groups.setdefault(key, []).append((int(index.value), gather))

for (data, axis), members in groups.items():
    members.sort(key=lambda pair: pair[0])
    if [number for number, _ in members] != list(range(len(members))):
        continue
    split_name = f"Split_of_{data}"
    outs = [f"{split_name}_{number}" for number, _ in members]
    model.add_node(split_name, "Split", inputs=[data], outputs=outs, attrs={"axis": axis})
    model.add_initializer(f"{split_name}_axes", np.array([axis], dtype=np.int64))
    for number, gather in members:
        squeeze = model.add_node(
            f"Squeeze_for_{gather.name}",
            "Squeeze",
            inputs=[outs[number], f"{split_name}_axes"],
            outputs=[f"{gather.name}_squeezed"],
        )
        for reader in model.get_next_nodes(gather.outputs[0]):
            for position in reader.get_input_ids(gather.outputs[0]):
                reader.inputs[position] = squeeze.outputs[0]
        model.remove(gather.name, {})
model.update_map()
model.remove_unused_nodes()
model.infershape()
model.save(sys.argv[2])
