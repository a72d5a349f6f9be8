"""auto_optimizer: Reshape, Gemm, Reshape on a batch of rows become MatMul and Add."""

import sys

import numpy as np
from auto_optimizer import OnnxGraph
from auto_optimizer.graph_refactor.interface.base_node import BaseNode, Initializer, Node


def fix_gemm(graph):
    for gemm in graph.get_nodes(op_type="Gemm"):
        assert isinstance(gemm, Node)
        assert isinstance(gemm, BaseNode)
        before = graph.get_prev_node(gemm.inputs[0])
        after = graph.get_next_nodes(gemm.outputs[0])[0]
        weight = graph.get_node(gemm.inputs[1], Initializer)
        value = weight.value.T if gemm.attrs.get("transB", 0) else weight.value
        matmul = graph.add_node(gemm.name.replace("Gemm", "MatMul"), "MatMul")
        graph.insert_node(gemm.name, matmul, mode="before")
        matmul_weight = graph.add_initializer(
            f"{matmul.name}_value", np.array(value, dtype=np.float32)
        )
        matmul.inputs.append(matmul_weight.name)
        add = graph.add_node(gemm.name.replace("Gemm", "Add"), "Add")
        graph.insert_node(gemm.name, add)
        add.inputs.append(gemm.inputs[2])
        graph.remove(gemm.name)
        graph.remove(before.name)
        graph.remove(after.name)


onnx_graph = OnnxGraph.parse(sys.argv[1])
fix_gemm(onnx_graph)
onnx_graph.remove_unused_nodes()
onnx_graph.save(sys.argv[2])
