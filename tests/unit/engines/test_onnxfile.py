"""What is read from an .onnx file before a runtime sees it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from shipway.engines.onnxfile import (
    bfloat16_findings,
    copy_onnx,
    external_files,
    operators,
    read_onnx,
    require_onnx,
)
from shipway.errors import ModelError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec

X = TensorSpec("x", "float32", ("n", 2))
Y = TensorSpec("y", "float32", ("n", 2))
TEXT = """
<ir_version: 8, opset_import: ["": 17, "my.domain": 1, "local": 1]>
g (float[n,2] x, bool c) => (float[n,2] y) <float[2] w = {1, 2}> {
  a = Add(x, w)
  b = local.Twice(a)
  [branch] y = If (c) <
    then_branch = t () => (float[n,2] p) { [deep] p = my.domain.Rare(b) },
    else_branch = e () => (float[n,2] q) { q = Neg(b) }
  >
}
<domain: "local", opset_import: ["": 17]> Twice (v) => (u) { u = Mul(v, v) }
"""


@pytest.fixture
def model(tmp_path):
    """A model with a weight, a subgraph, a local function and a custom operator."""
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(TEXT), path)
    return path


@pytest.fixture
def external(tmp_path):
    """A model whose weight lies in a data file in a subfolder, and a second one in a subgraph."""
    weight = numpy_helper.from_array(np.arange(2, dtype=np.float32), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in "xy"]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (tmp_path / "data").mkdir()
    onnx.save(
        proto,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="data/w.bin",
        size_threshold=0,
    )
    return tmp_path / "m.onnx"


def test_operators_are_found_in_subgraphs_and_functions_but_local_calls_are_not(model):
    """Each with the name of a node; what a local function stands for is listed, not the function."""
    found = operators(read_onnx(model))
    assert set(found) == {
        ("", "Add"),
        ("", "Mul"),
        ("", "If"),
        ("", "Neg"),
        ("my.domain", "Rare"),
    }
    assert found["my.domain", "Rare"] == "deep"


def test_specs_must_match_names_and_dtypes(model):
    """Weights are no inputs; another name or dtype is a ModelError that shows both sides."""
    condition = TensorSpec("c", "bool", ())
    read_onnx(model, PortableModel((X, condition), (Y,)))
    with pytest.raises(ModelError, match=r"inputs x:float32, c:bool; the model says x:float32"):
        read_onnx(model, PortableModel((X,), (Y,)))
    wide = TensorSpec("y", "float64", ("n", 2))
    with pytest.raises(ModelError, match=r"outputs y:float32; the model says y:float64"):
        read_onnx(model, PortableModel((X, condition), (wide,)))


def test_a_sequence_is_not_a_tensor(tmp_path):
    """Shipway carries tensors; the message names the kind."""
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n,2] x) => (seq(float[n,2]) y) { y = SequenceConstruct(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "s.onnx")
    with pytest.raises(ModelError, match="y:sequence"):
        read_onnx(tmp_path / "s.onnx", PortableModel((X,), (Y,)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no opset"),
        (b"this is text, not a model\n", "do not decode|no opset"),
        (bytes(range(256)) * 20, "do not decode|no opset"),
        (
            onnx.ModelProto(opset_import=[helper.make_opsetid("", 17)]).SerializeToString(),
            "no outputs",
        ),
    ],
    ids=["empty", "text", "garbage", "no graph"],
)
def test_what_is_no_model_is_said_to_be_none(tmp_path, content, why):
    """The message names the file."""
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=rf"bad\.onnx is not a whole ONNX model: .*({why})"):
        read_onnx(tmp_path / "bad.onnx")


def test_every_truncation_is_noticed(model):
    """Cut anywhere, the file is refused, or lacks a function it calls: never a smaller model."""
    specs = PortableModel((X, TensorSpec("c", "bool", ())), (Y,))
    content = model.read_bytes()
    for size in range(len(content)):
        model.write_bytes(content[:size])
        try:
            proto = read_onnx(model, specs)
        except ModelError:
            continue
        assert ("local", "Twice") in operators(proto)


def test_external_weights_travel_with_the_model(external, tmp_path):
    """Copied beside it, in their subfolder, and the copy still computes."""
    proto = read_onnx(external)
    target = tmp_path / "copy" / "renamed.onnx"
    assert copy_onnx(external, proto, target) == ("data/w.bin",)
    weight = onnx.load(target).graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(weight), [0, 1])


def test_absent_or_short_external_weights_are_a_model_error(external):
    """Both name the data file."""
    data = external.parent / "data" / "w.bin"
    data.write_bytes(data.read_bytes()[:3])
    with pytest.raises(ModelError, match=r"w\.bin is truncated: 3 bytes"):
        read_onnx(external)
    data.unlink()
    with pytest.raises(ModelError, match=r"w\.bin, which is absent"):
        read_onnx(external)


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../b", ""])
def test_weights_outside_the_models_folder_are_refused(external, location):
    """A model file must not make us read, or copy, any other file of the machine."""
    proto = onnx.load(external, load_external_data=False)
    next(
        e for e in proto.graph.initializer[0].external_data if e.key == "location"
    ).value = location
    with pytest.raises(ModelError, match="outside its own folder"):
        external_files(external, proto)


def test_a_model_without_onnx_says_who_needs_it():
    """And how to make it."""
    with pytest.raises(ModelError, match=r"E needs the model as an \.onnx file") as caught:
        require_onnx(PortableModel((X,), (Y,)), "E")
    assert "shipway export" in caught.value.hint


def test_bfloat16_at_the_border_is_found():
    """Inputs and outputs both."""
    narrow = TensorSpec("y", "bfloat16", ("n", 2))
    findings = bfloat16_findings(PortableModel((X,), (narrow,)), "E")
    assert [(finding.severity, finding.where) for finding in findings] == [("error", "y")]
