"""`shipway graph find` as a process."""

import json

import onnx
import onnx.parser
import pytest

from shipway.export.name_map import NameMap, TensorEntry, ValueEntry, write_name_map

TEXT = """<ir_version: 10, opset_import: ["": 20, "npu": 1]>
    g (float[2,4] x, float[4,4] w, float[4] b) => (y) {
        [matmul] m = MatMul(x, w)
        [add] a = Add(b, m)
        [odd] y = npu.Odd(a) }"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "a model.onnx"
    proto = onnx.parser.parse_model(TEXT)
    names = ("/blocks/blocks.1/fc/MatMul", "/blocks/blocks.1/fc/Add", "odd one")
    for node, name in zip(proto.graph.node, names, strict=True):
        node.name = name
    onnx.save(proto, path)
    return path


def test_nodes_are_shown_with_module_inputs_and_outputs(shipway, model) -> None:
    done = shipway("graph", "find", model, "--module", "blocks.1.*", "--type", "Add")
    assert done.returncode == 0, done.stderr
    for text in ("/blocks/blocks.1/fc/Add", "b, m", "blocks.1.fc", "1 node"):
        assert text in done.stdout
    assert "odd one" not in done.stdout


def test_nothing_found_is_exit_1_with_a_near_name(shipway, model) -> None:
    done = shipway("graph", "find", model, "--type", "MatMull")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Nearest: MatMul" in done.stderr
    done = shipway("graph", "find", model, "--domain", "tpu", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["nodes"] == []


def test_occurrences_of_a_pattern_are_numbered(shipway, model) -> None:
    words = ("graph", "find", model, "--pattern", "c = MatMul(a, b); d = Add(c, e)")
    assert shipway(*words).returncode == 1
    done = shipway(*words, "--commute", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["count"] == 1
    assert [(one["occurrence"], one["type"]) for one in found["nodes"]] == [
        (1, "MatMul"),
        (1, "Add"),
    ]
    # y is neither read nor computed by a node of the occurrence but by Odd: it must hold for one
    assert shipway(*words, "--commute", "--value", "y").returncode == 1
    assert shipway(*words, "--commute", "--value", "a").returncode == 0


def test_the_name_map_beside_the_model_says_module_and_line(shipway, model) -> None:
    entry = TensorEntry(
        "odd_1", "npu.odd", "float32", (2, 4), "kept", "y",
        module="head", source="net.py:18", code="return odd(x)",
    )  # fmt: skip
    write_name_map(
        NameMap(
            "a model.onnx", None, "torch.export", (entry,), (ValueEntry("m", "MatMul", "odd_1"),)
        ),
        model.with_suffix(".map.json"),
    )
    done = shipway("graph", "find", model, "--module", "head", "--json")
    nodes = json.loads(done.stdout)["nodes"]
    assert [(one["name"], one["source"], one["fx"]) for one in nodes] == [
        ("/blocks/blocks.1/fc/MatMul", "net.py:18", "odd_1"),
        ("odd one", "net.py:18", "odd_1"),
    ]
    assert "net.py:18" in shipway("graph", "find", model, "--value", "y").stdout


def test_a_damaged_name_map_is_said_and_left_out(shipway, model) -> None:
    model.with_suffix(".map.json").write_text("{}")
    done = shipway("graph", "find", model, "--value", "y")
    assert done.returncode == 0
    assert "name map is not used" in done.stderr


def test_a_model_that_is_not_valid_is_searched_all_the_same(shipway, model) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].input[0] = "nowhere"
    model.write_bytes(proto.SerializeToString())
    done = shipway("graph", "find", model, "--domain", "npu")
    assert done.returncode == 0
    assert "odd one" in done.stdout
    assert "which nothing computes" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("absent.onnx",), 4, "No such file"),
        (("MODEL", "--pattern", "Relu(a)"), 2, "no node"),
        (("MODEL", "--commute"), 2, "Add --pattern"),
        (("MODEL", "--typ", "Conv"), 2, "--typ"),
        ((), 2, "model"),
    ],
)
def test_mistakes_are_named(shipway, model, words, code, message) -> None:
    done = shipway("graph", "find", *(model if word == "MODEL" else word for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
