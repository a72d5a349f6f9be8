"""Proofs of edits: what is right passes, every kind of wrong is caught."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from shipway.errors import EngineError, ModelError
from shipway.graph.loading import load_graph
from shipway.graph.passes import catalogue
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph
from shipway.proof import graph
from shipway.proof.graph import prove_graphs
from shipway.proof.graph_bisect import bisect_changes, bisect_simplification

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
NUMBERS = np.random.default_rng(0)
WEIGHTS = {
    "w": NUMBERS.standard_normal((4, 3)).astype(np.float32),
    "b": NUMBERS.standard_normal(3).astype(np.float32),
}


def save(path, text, weights=WEIGHTS):
    proto = onnx.parser.parse_model(HEAD + text)
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, path)
    return path


@pytest.fixture
def files(tmp_path):
    def make(before, after, weights=WEIGHTS, other=None):
        folder = tmp_path / "a folder"
        folder.mkdir(exist_ok=True)
        return (
            save(folder / "be/fore.onnx".replace("/", "_"), before, weights),
            save(folder / "after.onnx", after, weights if other is None else other),
        )

    return make


LINEAR = "(float[n,4] x) => (float[n,3] y) <float[4,3] w, float[3] b> { m = MatMul(x, w)  y = Add(m, b) }"
GEMM = "(float[n,4] x) => (float[n,3] y) <float[4,3] w, float[3] b> { y = Gemm(x, w, b) }"


def test_the_same_mathematics_passes(files):
    proof = prove_graphs(*files(LINEAR, GEMM))
    assert proof.passed
    assert {trial.inputs for trial in proof.trials} >= {"normal", "negative", "zeros", "large"}
    assert {trial.sizes["n"] for trial in proof.trials} >= {0, 1}


@pytest.fixture
def in_pieces(monkeypatch):
    monkeypatch.setattr(graph, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(graph, "_PIECE_BYTES", 1)


@pytest.mark.usefixtures("in_pieces")
def test_large_models_run_in_pieces(files):
    with graph.open_model(files(LINEAR, LINEAR)[0]) as session:
        assert session.effective["pieces"] == "2"
    assert prove_graphs(*files(LINEAR, GEMM)).passed
    proof = prove_graphs(*files(LINEAR, LINEAR, other=WEIGHTS | {"b": WEIGHTS["b"] + 1}))
    assert not proof.passed


@pytest.mark.usefixtures("in_pieces")
def test_outputs_that_no_node_computes_come_out_of_pieces(files):
    both = "(float[n,4] x) => (float[n,4] x, float[4,3] w, float[n,3] y) <float[4,3] w> { y = MatMul(x, w) }"
    assert prove_graphs(*files(both, both)).passed


WRONG = {
    "a weight": (LINEAR, LINEAR, {"w": WEIGHTS["w"] * np.float32(1.001), "b": WEIGHTS["b"]}),
    "the order of a subtraction": (
        "(float[n,4] x, float[n,4] z) => (float[n,4] y) { y = Sub(x, z) }",
        "(float[n,4] x, float[n,4] z) => (float[n,4] y) { y = Sub(z, x) }",
        {},
    ),
    "a padding that only negatives show": (
        (
            "(float[n,1,4] x) => (float[n,1,4] y) <int64[6] p = {0,0,1,0,0,1}> "
            "{ a = Pad(x, p)  y = MaxPool<kernel_shape=[3]>(a) }"
        ),
        "(float[n,1,4] x) => (float[n,1,4] y) { y = MaxPool<kernel_shape=[3], pads=[1,1]>(x) }",
        {},
    ),
    "a batch that was baked in": (
        "(float[n,4] x) => (float[k,2] y) <int64[2] t = {-1,2}> { y = Reshape(x, t) }",
        "(float[n,4] x) => (float[k,2] y) <int64[2] t = {6,2}> { y = Reshape(x, t) }",
        {},
    ),
    "a NaN that was lost": (
        "(float[n,4] x) => (float[n,4] y) { y = Identity(x) }",
        "(float[n,4] x) => (float[n,4] y) { i = IsNaN(x)  z = Cast<to=1>(i)  y = Where(i, z, x) }",
        {},
    ),
    "an integer off by one": (
        "(int64[n] x) => (int64[n] y) <int64 one = {1}> { y = Add(x, one) }",
        "(int64[n] x) => (int64[n] y) <int64 one = {2}> { y = Add(x, one) }",
        {},
    ),
    "a rectifier": (
        "(float[n,4] x) => (float[n,4] y) { y = Identity(x) }",
        "(float[n,4] x) => (float[n,4] y) { y = Relu(x) }",
        {},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_caught(files, what):
    before, after, other = WRONG[what]
    weights = WEIGHTS if "w" in other else {}
    assert not prove_graphs(*files(before, after, weights, other)).passed


def test_another_output_name_is_refused(files):
    with pytest.raises(ModelError, match="outputs z:float32; before the edit they were y:float32"):
        prove_graphs(
            *files(
                "(float[n] x) => (float[n] y) { y = Relu(x) }",
                "(float[n] x) => (float[n] z) { z = Relu(x) }",
                {},
            )
        )


def test_a_dimension_that_is_fixed_now_is_refused(files):
    with pytest.raises(ModelError, match="takes only"):
        prove_graphs(
            *files(
                "(float[n] x) => (float[n] y) { y = Relu(x) }",
                "(float[3] x) => (float[3] y) { y = Relu(x) }",
                {},
            )
        )


def test_what_the_model_refuses_itself_is_noted(files):
    text = "(float[n,4] x) => (float[k,8] y) <int64[2] t = {-1,8}> { y = Reshape(x, t) }"
    proof = prove_graphs(*files(text, text, {}))
    assert proof.passed
    assert any("which the model before refuses" in note for note in proof.notes)


def test_a_model_that_runs_nowhere_is_an_error(files):
    text = "(float[n,4] x) => (float[5] y) <int64[1] t = {5}> { y = Reshape(x, t) }"
    with pytest.raises(EngineError, match="runs at no size"):
        prove_graphs(*files(text, text, {}))


def test_draws_are_compared_by_shape_and_said_to_be(files):
    text = "(float[n] x) => (float[n] y) { a = RandomNormalLike(x)  y = Add(a, x) }"
    proof = prove_graphs(*files(text, text, {}))
    assert proof.passed
    assert any("random" in note for note in proof.notes)


def test_indices_stay_within_what_the_model_takes(files):
    text = "(int64[n] x) => (float[n,3] y) <float[4,3] w> { y = Gather(w, x) }"
    proof = prove_graphs(*files(text, text, {"w": WEIGHTS["w"]}))
    assert proof.passed
    assert proof.trials


@pytest.mark.parametrize("guilty", range(1, 20))
def test_bisection_finds_the_first_wrong_change(guilty):
    asked = []

    def passes(count):
        asked.append(count)
        return count < guilty

    assert bisect_changes(19, passes) == guilty
    assert len(asked) <= 5


INSIDE = """(float[n,4] x) => (float[n,4] y) { a = Identity(x)  b = l.f(a)  y = l.g(b) }
<domain: "l", opset_import: ["" : 20]> f (x) => (y) { i = Identity(x)  j = Neg(i)  r = Relu(j)  y = Identity(r) }
<domain: "l", opset_import: ["" : 20]> g (x) => (y) { i = Identity(x)  y = Exp(i) }"""


def test_a_fault_inside_a_function_is_named_with_its_function(tmp_path, monkeypatch):
    """A rule that drops a Relu does so inside l::f, where the node has a name of its own."""
    before = tmp_path / "inside.onnx"
    proto = onnx.parser.parse_model(HEAD.replace('"" : 20', '"" : 20, "l" : 1') + INSIDE)
    proto.functions[0].node[2].name = "/act 1/Relu"
    onnx.save(proto, before)
    wrong = Rule(
        "drop_rectifiers", "exact", "Wrong.", ("Relu",), lambda n, _: Rewrite((n.inputs[0],))
    )
    rules = (*catalogue.PROFILES["portable"], wrong)
    monkeypatch.setattr(catalogue, "PROFILES", {"portable": rules})
    culprit = _judge(tmp_path, before, "drop_rectifiers")
    assert (culprit.change.function, culprit.change.node) == ("l::f", "/act 1/Relu")
    assert culprit.to_json()["change"]["function"] == "l::f"


def _judge(folder, before, name):
    model = load_graph(before)
    options = SimplifyOptions()
    simplify_graph(model, options)
    save_graph(model, folder / "after.onnx")
    proof = prove_graphs(before, folder / "after.onnx")
    assert not proof.passed
    culprit = bisect_simplification(before, options, folder, proof)
    assert culprit.change.rule == name
    assert culprit.to_json()["reasons"]
    return culprit


def test_a_draw_that_became_a_constant_is_caught(files):
    before = "(float[n] x) => (float[n] y) { a = RandomNormalLike(x)  y = Add(a, x) }"
    after = "(float[n] x) => (float[n] y) { y = Add(x, x) }"
    proof = prove_graphs(*files(before, after, {}))
    assert not proof.passed
    assert any("same in each run now" in reason for reason in proof.reasons)


def test_a_nan_everywhere_is_judged_by_its_places(files):
    before = "(float[n,4] x) => (float[n,4] y) { y = Softmax<axis=1>(x) }"
    after = (
        "(float[n,4] x) => (float[n,4] y) { i = IsNaN(x)  z = Cast<to=1>(i)  c = Where(i, z, x)"
        "  y = Softmax<axis=1>(c) }"
    )
    proof = prove_graphs(*files(before, after, {}), sizes=[{"n": 1}])
    assert not proof.passed
    same = prove_graphs(*files(before, before, {}), sizes=[{"n": 1}])
    assert same.passed
    assert any("nothing finite to measure: one NaN" in note for note in same.notes)


def test_a_fixed_dimension_can_be_proved_at_its_size(files):
    before = "(float[n] x) => (float[n] y) { y = Relu(x) }"
    assert prove_graphs(
        *files(before, "(float[3] x) => (float[3] y) { y = Relu(x) }", {}), sizes=[{"n": 3}]
    ).passed


def test_a_nan_is_left_out_where_the_edit_takes_for_granted_there_is_none(files):
    before, after = files(LINEAR, LINEAR)
    whole, finite = (prove_graphs(before, after, finite=one) for one in (False, True))
    assert "one NaN" in {trial.inputs for trial in whole.trials}
    assert "one NaN" not in {trial.inputs for trial in finite.trials}
    assert any("not tried: one NaN" in note for note in finite.notes)
