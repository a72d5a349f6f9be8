"""`shipway simplify` and `shipway graph prove` as processes."""

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,3] y) <float[4,3] w, float[3] b> {
  a = Identity(x)
  m = MatMul(a, w)
  y = Add(m, b)
}"""


@pytest.fixture
def model(tmp_path):
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (4, 3)), ("b", (3,))):
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    path = tmp_path / "a model.onnx"
    onnx.save(proto, path)
    return path


def test_a_model_is_simplified_and_proved(shipway, model, tmp_path):
    done = shipway("simplify", model, "--prove", "--json", "--output", tmp_path / "small.onnx")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["nodes_before"], facts["nodes_after"]) == (3, 1)
    assert facts["proof"]["passed"]
    assert facts["rules"] == {"remove_identities": 1, "fuse_matmul_adds": 1}
    assert [node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node] == ["Gemm"]
    assert (tmp_path / "small.changes.json").is_file()
    assert (tmp_path / "small.proof.json").is_file()


def test_without_an_output_it_lies_beside_the_model(shipway, model):
    done = shipway("simplify", model, "--skip", "fuse_matmul_adds")
    assert done.returncode == 0
    assert "nodes  3 -> 2" in done.stdout
    assert model.with_name("a model.simplified.onnx").is_file()


def test_the_name_map_is_carried(shipway, tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = torch.nn.Linear(4, 3)\n\n"
        "    def forward(self, x):\n        return self.fc(x.view(-1, 4)).relu().view(x.shape[0], -1)\n"
    )
    words = ("net.py:Net", "--input", "x:float32[batch,2,4]", "--no-proof")
    done = shipway("export", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = shipway("simplify", "export/model.onnx", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    carried = json.loads((tmp_path / "export" / "model.simplified.map.json").read_text())
    names = {
        value.name
        for value in onnx.load(tmp_path / "export" / "model.simplified.onnx").graph.output
    }
    simplified = onnx.load(tmp_path / "export" / "model.simplified.onnx").graph
    names |= {name for node in simplified.node for name in (*node.input, *node.output)}
    kept = [entry for entry in carried["tensors"] if entry["status"] == "kept"]
    assert kept
    assert {entry["onnx"] for entry in kept} <= names | {value.name for value in simplified.input}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("absent.onnx",), 4, "No such file"),
        (("MODEL", "--skip", "nothing"), 2, "There is no rule 'nothing'"),
        (("MODEL", "--profile", "fast"), 2, "no profile 'fast'"),
    ],
)
def test_mistakes_are_named(shipway, model, words, code, message):
    done = shipway("simplify", *(model if word == "MODEL" else word for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_truncated_model_is_named_and_nothing_is_written(shipway, model):
    model.write_bytes(model.read_bytes()[:-20])
    done = shipway("simplify", model)
    assert done.returncode == 4
    assert "a model.onnx" in done.stderr
    assert not model.with_name("a model.simplified.onnx").exists()


def test_sizes_of_the_proof_can_be_given(shipway, tmp_path):
    text = (
        '<ir_version: 10, opset_import: ["" : 20]>\nmain (float[n,k] x) => (float[n,m] y) '
        "<int64[1] one = {1}, int64[4] p = {0,40000,0,0}> "
        '{ a = Identity(x)  y = Pad<mode = "reflect">(a, p) }'
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    words = ("simplify", "m.onnx", "--prove", "--json")
    done = shipway(*words, cwd=tmp_path)
    assert done.returncode == 5
    assert "--size k=64" in done.stdout + done.stderr
    done = shipway(*words, "--size", "n=2", "--size", "k=50000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    proof = json.loads(done.stdout)["proof"]
    assert {tuple(trial["sizes"].values()) for trial in proof["trials"]} == {(2, 50000)}


def test_two_files_that_differ_fail_with_their_output(shipway, model, tmp_path):
    other = onnx.load(model)
    other.graph.node[1].op_type = "MatMul"
    weight = numpy_helper.to_array(other.graph.initializer[0]) * 1.01
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(other, tmp_path / "other.onnx")
    done = shipway("graph", "prove", model, tmp_path / "other.onnx")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "y" in done.stdout
    assert (tmp_path / "other.proof.json").is_file()
    same = shipway("graph", "prove", model, model, "--size", "n=2", "--json")
    assert same.returncode == 0
    assert json.loads(same.stdout)["passed"]


IN_A_FUNCTION = """<ir_version: 10, opset_import: ["" : 20, "my layers" : 1, "my.ops" : 1]>
main (float[n,4] x) => (float[n,4] y) { a = f(x)  y = Identity(a) }
<domain: "my layers", opset_import: ["" : 20]> f (x) => (y) { i = Identity(x)  y = Relu(i) }"""


def test_a_body_is_simplified_and_the_journal_names_the_function(shipway, tmp_path):
    proto = onnx.parser.parse_model(IN_A_FUNCTION)
    proto.graph.node[0].domain = "my layers"
    onnx.save(proto, tmp_path / "a model.onnx")
    done = shipway("simplify", tmp_path / "a model.onnx", "--prove", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["nodes_before"], facts["nodes_after"]) == (4, 2)
    assert [change["function"] for change in facts["changes"]] == ["", "my layers::f"]
    assert facts["proof"]["passed"]


def test_what_is_declared_pure_is_merged_and_said(shipway, tmp_path):
    proto = onnx.parser.parse_model(
        IN_A_FUNCTION.replace("a = f(x)", "a = my.ops.B(x)  u = my.ops.B(a)")
    )
    onnx.save(proto, tmp_path / "m.onnx")
    opaque = shipway("simplify", tmp_path / "m.onnx", "--json")
    assert json.loads(opaque.stdout)["nodes_after"] == 3
    done = shipway("simplify", tmp_path / "m.onnx", "--pure", "my.ops::B", "--pure", "my.ops::C")
    assert done.returncode == 0, done.stderr
    assert "my.ops::B gives the same outputs" in done.stdout
    assert "my.ops::C is declared pure, but no node" in " ".join(done.stderr.split())
    assert len(onnx.load(tmp_path / "m.simplified.onnx").graph.node) == 1


def test_a_wrong_name_for_pure_and_recursion_are_named(shipway, tmp_path):
    proto = onnx.parser.parse_model(IN_A_FUNCTION)
    onnx.save(proto, tmp_path / "m.onnx")
    done = shipway("simplify", tmp_path / "m.onnx", "--pure", "Blend")
    assert (done.returncode, "names no operator" in done.stderr) == (2, True)
    proto.functions[0].node[0].CopyFrom(
        onnx.helper.make_node("f", ["x"], ["i"], domain="my layers")
    )
    onnx.save(proto, tmp_path / "m.onnx")
    done = shipway("simplify", tmp_path / "m.onnx")
    assert done.returncode == 4
    assert "call each other in a circle: my layers::f -> my layers::f" in " ".join(
        done.stderr.split()
    )
    assert "hint:" in done.stderr
    assert not (tmp_path / "m.simplified.onnx").exists()


def test_definitions_of_the_users_own_give_shapes(shipway, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import shipway\n\n\n@shipway.custom_op('mine::keep', schema='(Tensor x) -> Tensor', types='T->T',"
        " pure=True)\ndef keep(x):\n    return x * 2\n"
    )
    text = (
        IN_A_FUNCTION.replace('"my.ops"', '"mine"')
        .replace("a = f(x)", "a = mine.Keep(x)  b = mine.Keep(x)  s = Shape(x)  c = Reshape(a, s)")
        .replace("y = Identity(a)", "y = Add(c, b)")
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    words = ("simplify", "m.onnx", "--ops", "mine.py", "--prove", "--json")
    done = shipway(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["nodes_before"], facts["nodes_after"]) == (7, 3)
    assert facts["proof"]["passed"]


GUARDED = """<ir_version: 11, opset_import: ["" : 23]>
main (float[n,2,t,4] q, float[n,2,t,4] k, float[n,2,t,4] v) => (float[n,2,t,4] y) <float zero> {
  z = Transpose<perm=[0,1,3,2]>(k)
  a = MatMul(q, z)
  p = Softmax<axis=-1>(a)
  bad = IsNaN(p)
  g = Where(bad, zero, p)
  y = MatMul(g, v)
}"""


def test_what_a_rule_takes_for_granted_is_said_and_not_tried(shipway, tmp_path):
    proto = onnx.parser.parse_model(GUARDED)
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(proto, before)
    words = ("--profile", "modern", "--prove", "--output", after)
    done = shipway("simplify", before, *words)
    assert done.returncode == 0, done.stderr
    assert "holds as long as no input is NaN or infinite" in done.stdout
    assert "not tried: one NaN" in done.stdout
    assert [node.op_type for node in onnx.load(after).graph.node] == ["Attention"]
    done = shipway("graph", "prove", before, after, "--nonempty")
    assert done.returncode == 1
    done = shipway("graph", "prove", before, after, "--nonempty", "--finite")
    assert done.returncode == 0, done.stdout
