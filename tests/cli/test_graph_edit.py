"""`shipway graph edit` as a process."""

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper


@pytest.fixture
def model(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>\n'
        "main (float[n,3,9] x) => (float[n,4,7] y) <float[4,3,3] w> { y = Conv(x, w) }"
    )
    array = np.random.default_rng(0).standard_normal((4, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    path = tmp_path / "a model.onnx"
    onnx.save(proto, path)
    return path


def test_an_edit_is_made_and_proved(shipway, model, tmp_path):
    target = tmp_path / "edited.onnx"
    done = shipway(
        "graph", "edit", model, "convert-conv1d", "--output", target, "--prove", "--json"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["changed"], facts["proof"]["passed"]) == (1, True)
    assert "Conv" in [node.op_type for node in onnx.load(target).graph.node]
    assert (tmp_path / "edited.proof.json").is_file()


def test_the_edits_are_listed(shipway):
    done = shipway("graph", "edit", "--list")
    assert done.returncode == 0
    assert "pad-tokens" in done.stdout
    assert "exact" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("MODEL", "merge-cast"), 2, "Nearest: merge-casts"),
        (("MODEL", "clamp-constants"), 4, "changes what the model computes"),
        (("MODEL", "convert-opset", "--version", "99"), 2, "Opset 99 cannot be delivered"),
        (("MODEL", "pad-tokens", "--too", "3"), 2, "no option --too"),
        (("MODEL", "clamp-constants", "--allow", "--prove"), 2, "nothing to prove"),
        ((), 2, "Name a model and an edit"),
        (("absent.onnx", "merge-casts"), 4, "No such file"),
    ],
)
def test_mistakes_are_named(shipway, model, words, code, message):
    done = shipway("graph", "edit", *(model if word == "MODEL" else word for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
