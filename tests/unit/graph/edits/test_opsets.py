"""Opset conversion: up and down, node by node."""

import numpy as np
import onnx_ir as ir
import pytest

from shipway.errors import ModelError, UsageError
from shipway.graph.editing import convert_opset

NETWORK = """
g (float[n,3,8] x) => (float[n,k,2] y)
<float[4,3,3] w = {%s}, int64[1] axis = {-1}, float low = {-1}, float high = {1}>
{
  [conv] a = Conv<pads=[1,1]>(x, w)
  [clip] b = Clip(a, low, high)
  [soft] c = Softmax<axis=-1>(b)
  [parts] d, e = Split<axis=1>(c)
  [swish] f = HardSwish(d)
  [red] g = ReduceMax<axes=[2], keepdims=1>(e)
  [sum] h = Add(f, g)
  [top] i = Transpose<perm=[0,2,1]>(h)
  [id] y = Identity(i)
}
"""


@pytest.fixture
def network(lab):
    text = NETWORK % ", ".join(map(str, lab.numbers(36).tolist()))
    model = lab.make(text.replace("float[n,k,2] y", "float[n,8,2] y"), 15)
    for node in model.graph:
        node.metadata_props["from"] = node.name
    return model


@pytest.mark.parametrize("version", [11, 12, 13, 17, 18, 20, 23])
def test_outputs_and_metadata_stay(lab, network, version):
    feeds = [lab.numbers(size, 3, 8) for size in (1, 3)]
    golden = [lab.run(network, x=one)[0] for one in feeds]
    change = convert_opset(network, version)
    assert network.opset_imports[""] == version == change.after
    assert all(node.metadata_props.get("from") for node in network.graph)
    assert lab.worst(golden, [lab.run(network, x=one)[0] for one in feeds]) < 1e-6


def test_nodes_whose_operator_is_the_same_are_the_same_objects(lab, network):
    conv = network.graph.node("conv")
    convert_opset(network, 18)
    assert network.graph.node("conv") is conv


def test_what_lies_inside_branches_and_functions_is_converted(lab):
    model = ir.from_onnx_text("""
        <ir_version: 8, opset_import: ["": 11, "mine": 1]>
        g (float[2,3] x, bool c) => (float[3] y) {
          y = If(c) <
            then_branch = t () => (float[3] t1) { t1 = ReduceSum<axes=[0], keepdims=0>(x) },
            else_branch = e () => (float[3] e1) { e1 = mine.f(x) }> }
        <domain: "mine", opset_import: ["": 11]>
        f (i) => (o) { o = ReduceSum<axes=[0], keepdims=0>(i) }
    """)
    feeds = {"x": lab.numbers(2, 3), "c": np.array(True)}
    golden = lab.run(model, **feeds)
    convert_opset(model, 17)
    assert {graph.opset_imports[""] for graph in model.functions.values()} == {17}
    assert lab.worst(golden, lab.run(model, **feeds)) == 0


@pytest.mark.parametrize(
    ("text", "before", "after", "message"),
    [
        ("y = Mod<fmod=1>(x, x)", 13, 9, "'node' .Mod.*no Mod before opset 10"),
        ("y = Softmax<axis=0>(x)", 13, 11, "'node' .Softmax.*inner axis"),
        ("y = Slice(x, s, s, s, s)", 13, 9, "steps|computed"),
    ],
)
def test_what_an_opset_cannot_say_is_refused_by_name(lab, text, before, after, message):
    model = lab.make(
        f"g (float[2,3] x) => (float[a,b] y) <int64[1] s = {{2}}> {{ [node] {text} }}", before
    )
    was = ir.to_onnx_text(model)
    with pytest.raises(ModelError, match=message):
        convert_opset(model, after)
    assert ir.to_onnx_text(model) == was


def test_an_opset_that_does_not_exist_is_refused(network):
    with pytest.raises(UsageError, match="Opset 99"):
        convert_opset(network, 99)


def test_an_operator_an_opset_lacks_is_written_out_as_onnx_defines_it(lab):
    model = lab.make("g (float[2,3] x) => (float[2,3] y) { y = Gelu(x) }", 20)
    golden = lab.run(model, x=lab.numbers(2, 3))
    convert_opset(model, 11)
    assert "Erf" in lab.op_types(model)
    assert lab.worst(golden, lab.run(model, x=lab.numbers(2, 3))) < 1e-6


def test_grid_sample_gets_the_mode_of_its_opset(lab):
    text = 'g (float[1,1,4,4] x, float[1,3,3,2] p) => (float[1,1,3,3] y) { y = GridSample<mode="linear">(x, p) }'
    model = lab.make(text, 20)
    feeds = {"x": lab.numbers(1, 1, 4, 4), "p": np.tanh(lab.numbers(1, 3, 3, 2))}
    golden = lab.run(model, **feeds)
    convert_opset(model, 16)
    assert model.graph[0].attributes["mode"].value == "bilinear"
    assert lab.worst(golden, lab.run(model, **feeds)) == 0
