"""The wiring of a graph by names."""

from __future__ import annotations

import onnx_ir as ir

from shipway.export.sketch import all_values, node_origin, sketch_graph

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
main (float[N] x, bool c) => (float[N] y, float[N] z)
<float[1] w = {2}>
{
    two = Constant <value = float[1] {2}> ()
    scale = Mul (w, two)
    a = Mul (x, scale)
    b = Relu (a)
    y = Add (b, scale)
    noise = RandomNormal <shape = [1]> ()
    z = If (c) <
        then_branch = t () => (float[N] t_out) { t_out = Neg (b) },
        else_branch = e () => (float[N] e_out) { e_out = Identity (a) }
    >
}
"""


def model():
    return ir.from_onnx_text(MODEL)


def test_constants_depend_on_no_input():
    """Random values are none, for all that they have no input."""
    assert sketch_graph(model()).constants() == {"w", "two", "scale"}


def test_what_a_subgraph_reads_counts_as_read():
    """Values are captured by name from the outside."""
    sketch = sketch_graph(model())
    assert set(sketch.sources["z"]) >= {"c", "a", "b"}
    assert "z" in sketch.consumers["b"]


def test_descendants_stop_at_the_nearest():
    """Further ones are reached through them."""
    sketch = sketch_graph(model())
    assert sketch.descendants("x", {"b", "y", "z"}) == ("b", "z")
    assert sketch.descendants("w", {"y", "a"}) == ("a", "y")
    assert sketch.descendants("y", {"b"}) == ()


def test_values_of_subgraphs_are_values_too():
    """They need names that nothing outside has."""
    names = {value.name for value in all_values(model())}
    assert {"x", "w", "a", "t_out", "e_out"} <= names


def test_an_origin_is_read_from_the_exporters_record():
    """And is empty where there is none, or another tool garbled it."""
    node = ir.node("Relu", [])
    assert node_origin(node) == ""
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'stem', 'relu_1']"
    assert node_origin(node) == "relu_1"
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', "
    assert node_origin(node) == ""
