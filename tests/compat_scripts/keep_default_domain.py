"""MagicONNX: one domain, as ATC wants it; the answer to its error E16005."""

import sys

from MagicONNX.magiconnx import OnnxGraph

graph = OnnxGraph(sys.argv[1])
graph.keep_default_domain()
graph.save(sys.argv[2])
