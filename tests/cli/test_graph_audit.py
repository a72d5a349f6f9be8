"""`shipway graph audit` as a process."""

import json
import textwrap

import onnx
import onnx.parser
import pytest

BAKED = """<ir_version: 10, opset_import: ["" : 20]>
main (float[batch,4] x) => (float[3,4] y) { y = Relu(x) }"""
CUSTOM = """<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>
main (float[batch,4] x) => (float[3,4] y) { y = mine.Triple(x) }"""
OPERATOR = """
    import torch

    from shipway.ops import Sample, custom_op


    def samples(generator):
        yield Sample("one", (torch.ones(2, 4),))


    @custom_op("mine::triple", schema="(Tensor x) -> Tensor", types="T->T", samples=samples)
    def triple(x):
        \"\"\"Triple it.\"\"\"
        return x * 3
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "a model.onnx"
    onnx.save(onnx.parser.parse_model(BAKED), path)
    return path


def test_a_false_shape_is_shown_and_mended(shipway, model, tmp_path):
    done = shipway("graph", "audit", model, "--write", tmp_path / "mended.onnx")
    assert done.returncode == 1, done.stderr
    assert "FAIL: 1 error" in done.stdout
    assert "The output 'y' is declared [3,4]; [1,4] came at batch=1" in done.stdout
    assert "1 of 1 checked" in done.stdout
    assert "1 declarations replaced" in done.stdout
    again = shipway("graph", "audit", tmp_path / "mended.onnx", "--size", "batch=5", "--json")
    assert again.returncode == 0, again.stderr
    facts = json.loads(again.stdout)
    assert facts["passed"]
    assert facts["mended"] is None
    assert {"batch": 0} in facts["sizes"]
    assert {"batch": 5} in facts["sizes"]


FIXED = """<ir_version: 10, opset_import: ["" : 20]>
main (float[batch,4] x) => (float[k,2] y) <int64[2] t = {6,2}> { y = Reshape(x, t) }"""


def test_the_command_of_a_hint_can_be_typed(shipway, tmp_path):
    onnx.save(onnx.parser.parse_model(FIXED), tmp_path / "MODEL")
    done = shipway("graph", "audit", "MODEL", "--nonempty", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    printed = " ".join(done.stdout.split())
    assert "declared dynamic, and the model runs at 3 only" in printed
    command = "shipway graph edit MODEL change-shape --value x --shape 3,4"
    assert command in printed
    words = command.removeprefix("shipway ").split()
    assert shipway(*words, "--output", "fixed.onnx", cwd=tmp_path).returncode == 0
    done = shipway("graph", "audit", "fixed.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_model_can_be_mended_in_place(shipway, model):
    assert shipway("graph", "audit", model, "--write", model, "--nonempty").returncode == 1
    assert shipway("graph", "audit", model, "--nonempty").returncode == 0


def test_custom_operators_are_given_by_file(shipway, tmp_path):
    onnx.save(onnx.parser.parse_model(CUSTOM), tmp_path / "m.onnx")
    (tmp_path / "my_ops.py").write_text(textwrap.dedent(OPERATOR))
    bare = shipway("graph", "audit", "m.onnx", cwd=tmp_path)
    assert bare.returncode == 5
    assert "mine::Triple" in bare.stderr
    assert "--ops" in bare.stderr
    words = ("--ops", "my_ops.py", "--json")
    done = shipway("graph", "audit", "m.onnx", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert {"batch": 0} in facts["sizes"]
    (finding,) = facts["findings"]
    assert (finding["kind"], finding["place"]["op"]) == ("false-shape", "Triple")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("absent.onnx",), 4, "No such file"),
        (("MODEL", "--size", "batch"), 2, "--size takes name=number"),
        (("MODEL", "--size", "seq=3"), 2, "no dynamic dimension 'seq'"),
        (("MODEL", "--write", "MODEL/no.onnx", "--nonempty"), 2, "a model.onnx"),
    ],
)
def test_mistakes_are_named(shipway, model, words, code, message):
    done = shipway("graph", "audit", *(word.replace("MODEL", str(model)) for word in words))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_truncated_model_is_named(shipway, model):
    model.write_bytes(model.read_bytes()[:-20])
    done = shipway("graph", "audit", model)
    assert done.returncode == 4
    assert "a model.onnx" in done.stderr


NET = """
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return x.squeeze() * 2
"""


def test_an_export_that_loses_a_size_fails_and_says_where(shipway, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    words = ("export", "net.py:Net", "--input", "x:float32[batch,4]", "--sets", "1")
    done = shipway(*words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    printed = " ".join(done.stdout.split())
    assert "The module takes batch=1 and its export does not" in printed
    assert "at net.py:7: return x.squeeze() * 2" in printed
    assert "--bound batch=2..12" in printed
    again = shipway(*words, "--bound", "batch=2..12", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    assert json.loads(again.stdout)["proof"]["findings"] == []


def test_a_deployment_misses_the_check_of_its_export_and_says_where(shipway, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    words = ("deploy", "net.py:Net", "--input", "x:float32[batch,4]", "--output", "run")
    done = shipway(*words, cwd=tmp_path)
    assert done.returncode == 5, done.stderr  # the benchmark, with one sample, fails too
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["proof"]["findings"][0]["kind"] == "lost-size"
    check = next(one for one in report["checks"] if one["name"].startswith("export"))
    assert not check["passed"]
    assert "At net.py:7: return x.squeeze() * 2" in check["detail"]
    assert "its export does not" in (tmp_path / "run" / "report.html").read_text()
