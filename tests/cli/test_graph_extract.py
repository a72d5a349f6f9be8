"""`shipway graph extract` as a process."""

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

TEXT = """<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>
main (float[n,4] x, float[k] other) => (float[n,3] y, float[k] z) <float[4,3] w> {
  a = Relu(x)
  m = MatMul(a, w)
  y = Neg(m)
  p = mine.Op(other)
  z = Abs(p)
}"""


@pytest.fixture
def model(tmp_path):
    proto = onnx.parser.parse_model(TEXT)
    array = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("m", "/fc 1/out:0") if name == "m" else name for name in names]
    path = tmp_path / "a model.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def standard(model):
    """The same without the operator nobody has."""
    proto = onnx.load(model)
    proto.graph.node[3].domain, proto.graph.node[3].op_type = "", "Exp"
    onnx.save(proto, model)
    return model


def test_a_part_is_cut_out_and_proved(shipway, standard, tmp_path):
    target = tmp_path / "part.onnx"
    words = ("--inputs", "a", "--outputs", "/fc 1/out:0,y", "--output", target, "--prove")
    done = shipway("graph", "extract", standard, *words, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["inputs"] == ["a:float32[n,4]"]
    assert facts["outputs"] == ["/fc 1/out:0:float32[n,3]", "y:float32[n,3]"]
    assert (facts["nodes_before"], facts["nodes_after"]) == (5, 2)
    assert facts["proof"]["passed"]
    onnx.checker.check_model(target)
    assert (tmp_path / "part.proof.json").is_file()


def test_without_an_output_it_lies_beside_the_model(shipway, standard):
    words = ("--outputs", "y", "--size", "n=2")
    done = shipway("graph", "extract", standard, *words, "--prove", "--at", "k=3")
    assert done.returncode == 0, done.stderr
    assert "input   x:float32[2,4]" in done.stdout
    assert "nodes   3 of 5" in done.stdout
    assert "PASS" in done.stdout
    assert standard.with_name("a model.part.onnx").is_file()


def test_the_model_may_be_replaced_by_its_part(shipway, standard):
    words = ("--inputs", "a", "--outputs", "y", "--output", standard, "--prove")
    done = shipway("graph", "extract", standard, *words)
    assert done.returncode == 0, done.stderr
    assert len(onnx.load(standard).graph.node) == 2


def test_shapes_behind_an_operator_onnx_does_not_know_are_found_by_running(shipway, tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
main (float[n,4] x) => (float[n,m] y) {
  g = com.microsoft.FusedMatMul<transB=1>(x, x)
  y = Neg(g)
}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "g,h"
    info = onnx.helper.make_tensor_value_info("g,h", onnx.TensorProto.FLOAT, None)
    proto.graph.value_info.append(info)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    words = ("graph", "extract", path, "--inputs", "g,h")
    assert "The rank of 'g,h' is not known" in shipway(*words).stderr
    done = shipway(*words, "--run", "--prove", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["inputs"], facts["outputs"]) == (["g,h:float32[n,n]"], ["y:float32[n,n]"])
    assert "found by running the model: g,h:float32[n,n]" in facts["notes"]
    assert facts["proof"]["passed"]


def test_the_name_map_is_reduced(shipway, tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x):\n        return (x.relu() + 1).exp().neg()\n"
    )
    done = shipway("export", "net.py:Net", "--input", "x:float32[n,4]", "--no-proof", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "export" / "model.onnx"
    names = [node.output[0] for node in onnx.load(path).graph.node]
    done = shipway("graph", "extract", path, "--inputs", names[0], "--outputs", names[2])
    assert done.returncode == 0, done.stderr
    whole = json.loads(path.with_suffix(".map.json").read_text())
    part = json.loads(path.with_name("model.part.map.json").read_text())
    assert part["model"] == "model.part.onnx"
    kept = [entry["onnx"] for entry in part["tensors"]]
    assert kept == names[:3]
    by_name = {entry["onnx"]: entry for entry in whole["tensors"]}
    assert part["tensors"] == [by_name[name] for name in kept]
    path.with_suffix(".map.json").write_text("{}")
    path.with_name("model.part.onnx").unlink()
    done = shipway("graph", "extract", path, "--inputs", names[0], "--outputs", names[2])
    assert done.returncode == 4
    assert "is not a name map of Shipway" in done.stderr
    assert not path.with_name("model.part.onnx").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("MODEL",), 2, "Name where the part begins or ends"),
        (("MODEL", "--inputs", "aa", "--outputs", "y"), 2, "Nearest: a"),
        (("MODEL", "--inputs", "a"), 2, "cannot be computed from a alone"),
        (("MODEL", "--inputs", "p", "--outputs", "z"), 2, "dtype of 'p' is not known"),
        (("MODEL", "--inputs", "p", "--outputs", "z", "--type", "p:what[1]"), 4, "dtype 'what'"),
        (("MODEL", "--outputs", "y", "--size", "n"), 2, "--size takes name=number"),
        (("MODEL", "--outputs", "y", "--size", "q=1"), 2, "no dynamic dimension 'q'"),
        (("MODEL", "--outputs", "z", "--prove"), 5, "mine::Op"),
        (("absent.onnx", "--outputs", "y"), 4, "No such file"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(shipway, model, words, code, message):
    words = (model if word == "MODEL" else word for word in words)
    done = shipway("graph", "extract", *words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "hint:" in done.stderr or "No such file" in message
    assert "Traceback" not in done.stderr
    assert [one.name for one in model.parent.iterdir()] == ["a model.onnx"]
