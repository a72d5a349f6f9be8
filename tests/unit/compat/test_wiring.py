"""The index of who reads and writes a name never differs from the lists, whatever is done to them."""

from __future__ import annotations

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from shipway.compat.auto_optimizer import Node, OnnxGraph

NAMES = st.sampled_from("abcdxyz")


def make_graph() -> OnnxGraph:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    agraph (float[4] x) => (float[4] y)
    {
      [n0] a = Neg(x)
      [n1] b, c = Split<axis = 0, num_outputs = 2>(a)
      [n2] d = Concat<axis = 0>(b, c)
      [n3] y = Relu(d)
    }
    """
    return OnnxGraph.parse(onnx.parser.parse_model(text.replace("num_outputs = 2", "note = 2")))


def act(graph: OnnxGraph, step: int, kind: str, which: int, old: str, new: str) -> None:
    node = graph.nodes[which % len(graph.nodes)] if graph.nodes else None
    if node is None or kind == "add":
        graph.add_node(f"new{step}", "Neg", [old], [f"{new}{step}"])
    elif kind == "remove":
        graph.remove(node.name)
    elif kind == "insert":
        graph.insert_node(node.name, Node(f"new{step}", "Neg"), mode="before")
    elif kind == "inputs":
        node.inputs[:] = [old, new]
    elif kind == "outputs":
        node.outputs = [new]
    elif kind == "pop":
        node.inputs.append(new)
        node.inputs.pop(0)
    else:
        graph.nodes.reverse()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "insert", "inputs", "outputs", "pop", "reverse"]),
            st.integers(0, 9),
            NAMES,
            NAMES,
        ),
        max_size=12,
    )
)
def test_the_index_is_the_truth(steps) -> None:
    graph = make_graph()
    for number, (kind, which, old, new) in enumerate(steps):
        act(graph, number, kind, which, old, new)
    graph.update_map()
    names = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)}
    for name in names:
        assert graph.get_next_nodes(name) == [one for one in graph.nodes if name in one.inputs]
        writers = [one for one in graph.nodes if name in one.outputs]
        assert graph.get_prev_node(name) is (writers[0] if writers else None)
    assert [graph[node.name] for node in graph.nodes] == list(graph.nodes)
