"""`shipway graph inspect` as a process."""

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

TEXT = """<ir_version: 10, opset_import: ["": 20, "npu": 1]>
    g (float[batch,3,8,8] image) => (y) { a = Conv(image, w) [odd] y = npu.Odd(a) }"""


@pytest.fixture
def model(tmp_path):
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w"))
    path = tmp_path / "a model.onnx"
    onnx.save(proto, path)
    return path


def test_the_tables_show_what_there_is(shipway, model) -> None:
    done = shipway("graph", "inspect", model)
    assert done.returncode == 0, done.stderr
    for text in (
        "npu      custom  Odd",
        "batch",
        "3.89k*batch",
        "npu::Odd",
        "counted 1 of 2",
        "there is no rule for npu::Odd",
        "--size 'batch=N'",
    ):
        assert text in done.stdout


def test_sizes_make_numbers(shipway, model) -> None:
    done = shipway("graph", "inspect", model, "--size", "batch=2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counting"]["macs"] == 2 * 4 * 36 * 27
    assert found["counting"]["coverage"] == 0.5
    assert found["domains"][1] == {
        "domain": "npu",
        "version": 1,
        "nodes": 1,
        "kind": "custom",
        "custom": ["Odd"],
    }


def test_the_structure_is_a_tree_of_fields(shipway, model) -> None:
    done = shipway("graph", "inspect", model, "--structure")
    assert done.returncode == 0, done.stderr
    assert "raw_data" in done.stdout
    assert "length-delimited" in done.stdout
    deeper = shipway("graph", "inspect", model, "--structure", "--depth", "1", "--json")
    assert json.loads(deeper.stdout)["fields"][0]["fields"] == []


def test_an_invalid_model_is_shown_with_what_is_wrong(shipway, model) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].input[0] = "y"
    model.write_bytes(proto.SerializeToString())
    done = shipway("graph", "inspect", model)
    assert done.returncode == 0, done.stderr
    assert "has a cycle" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_name_cannot_steer_the_terminal(shipway, model) -> None:
    proto = onnx.load(model)
    proto.producer_name = "\x1b[31mred"
    proto.graph.node[1].op_type = "Odd\x1b[2J"
    model.write_bytes(proto.SerializeToString())
    for flags in ((), ("--structure",)):
        assert "\x1b" not in shipway("graph", "inspect", model, *flags).stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("absent.onnx",), 4, "No such file"),
        (("MODEL", "--size", "batch"), 2, "name=number"),
        (("MODEL", "--size", "bach=2"), 2, "Nearest: batch"),
        (("MODEL", "--structure", "--depth", "0"), 2, "from 1 to 64"),
        (("MODEL", "--largest", "-1"), 2, "0 or more"),
        ((), 2, "model"),
    ],
)
def test_mistakes_are_named(shipway, model, words, code, message) -> None:
    done = shipway("graph", "inspect", *(model if word == "MODEL" else word for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
