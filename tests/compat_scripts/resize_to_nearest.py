"""auto_optimizer: every Resize takes the nearest pixel. Changes numbers, and was published."""

import sys

from auto_optimizer import OnnxGraph

g = OnnxGraph.parse(sys.argv[1])
for node in g.get_nodes("Resize"):
    if node["mode"] != b"nearest":
        node["mode"] = "nearest"
        node["coordinate_transformation_mode"] = "asymmetric"
        node["nearest_mode"] = "floor"
        node.attrs.pop("cubic_coeff_a", None)
g.save(sys.argv[2])
