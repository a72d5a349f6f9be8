"""auto_optimizer: Transposes around an elementwise node cancel out and go."""

import argparse

from auto_optimizer.graph_refactor.onnx.graph import OnnxGraph

parser = argparse.ArgumentParser()
parser.add_argument("--input_model", required=True)
parser.add_argument("--output_model", required=True)
args = parser.parse_args()

g = OnnxGraph.parse(args.input_model)
for node in g.get_nodes("Relu"):
    before = g.get_prev_node(node.inputs[0])
    behind = g.get_next_nodes(node.outputs[0])
    if before is None or before.op_type != "Transpose" or len(behind) != 1:
        continue
    after = behind[0]
    if after.op_type != "Transpose":
        continue
    perm = [before.attrs["perm"][axis] for axis in after["perm"]]
    if perm == sorted(perm):
        g.remove(before.name)
        g.remove(after.name)
g.update_map()
g.toposort()
g.save(args.output_model)
