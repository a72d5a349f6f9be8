"""Proofs of extractions, and shapes found by running."""

import numpy as np
import onnx
import onnx.parser
import pytest

from shipway.errors import EngineError, UsageError
from shipway.graph.extracting import extract_graph
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.proof.extraction import prove_extraction
from shipway.proof.observation import observe_types

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x, float[n] s) => (float[n,3] y) <float[4,3] w, int64[2] target> {
  a = Relu(x)
  m = MatMul(a, w)
  e = Exp(m)
  t = Reshape(e, target)
  y = Reshape(t, target)
}"""


@pytest.fixture
def files(tmp_path):
    """Return a function that cuts a part out and gives both paths."""
    proto = onnx.parser.parse_model(TEXT)
    weights = {
        "w": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
        "target": np.array([-1, 3]),
    }
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    whole, part = tmp_path / "a whole.onnx", tmp_path / "part.onnx"
    onnx.save(proto, whole)

    def cut(inputs, outputs, **how):
        model = load_graph(whole)
        extract_graph(model, inputs, outputs, **how)
        save_graph(model, part)
        return whole, part

    return cut


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(None, ["m"]), (["m"], None), (["a", "w"], ["m", "y"])],
)
def test_a_part_is_proved(files, inputs, outputs):
    proof = prove_extraction(*files(inputs, outputs))
    assert proof.passed, proof.reasons
    assert proof.worst_relative_l2 < 1e-6  # a weight that is an input is multiplied otherwise
    assert len({trial.sizes["n"] for trial in proof.trials}) > 1


def test_a_changed_weight_fails(files):
    whole, part = files(["a"], ["e"])
    proto = onnx.load(part)
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0]) * np.float32(1.001)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, part)
    assert not prove_extraction(whole, part, nonempty=True).passed


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_false_shape_of_an_end_fails(files, end):
    whole, part = files(["a"], ["e"])
    proto = onnx.load(part)
    getattr(proto.graph, end)[0].type.tensor_type.shape.dim[0].dim_value = 5
    onnx.save(proto, part)
    proof = prove_extraction(whole, part, nonempty=True)
    assert not proof.passed
    assert "fails where the model before runs" in proof.reasons[0]


def test_sizes_are_fixed_in_both(files):
    whole, part = files(["a"], ["e"], sizes={"n": 2})
    proof = prove_extraction(whole, part, sizes={"n": 2}, nonempty=True)
    assert proof.passed, proof.reasons
    assert {trial.comparison.outputs[0].metrics.count for trial in proof.trials} == {6}


def test_a_part_of_another_model_is_refused(files, tmp_path):
    _, part = files(["a"], ["e"])
    other = onnx.parser.parse_model(
        TEXT.replace("a = Relu(x)", "b = Relu(x)").replace("(a,", "(b,")
    )
    for name, array in (("w", np.ones((4, 3), np.float32)), ("target", np.array([-1, 3]))):
        other.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match="no value 'a'"):
        prove_extraction(tmp_path / "other.onnx", part)


def test_what_is_random_before_the_part_is_fed_as_drawn_and_inside_it_judged_by_shape(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,4] y) {
  r = RandomNormalLike(x)
  a = Add(x, r)
  b = Neg(a)
  q = RandomNormalLike(b)
  y = Add(b, q)
}"""
    whole, part = tmp_path / "whole.onnx", tmp_path / "part.onnx"
    onnx.save(onnx.parser.parse_model(text), whole)
    for outputs, notes in ((["b"], 0), (["y"], 1)):
        model = load_graph(whole)
        extract_graph(model, ["a"], outputs)
        save_graph(model, part)
        proof = prove_extraction(whole, part, nonempty=True)
        assert proof.passed, proof.reasons
        assert sum("which is random" in note for note in proof.notes) == notes


def test_shapes_that_inference_leaves_open_are_found_by_running(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x, float[k] s) => (float[m] y) {
  ones = Constant<value_ints=[2,1]>()
  wide = Tile(x, ones)
  hits = NonZero(wide)
  axis = Constant<value_ints=[0]>()
  kept = Shape(wide)
  big = ConstantOfShape<value: tensor = float[1] {1.0}>(kept)
  y = ReduceSum<keepdims=0>(big)
}"""
    path = tmp_path / "whole.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    found = {spec.name: spec.shape for spec in observe_types(path, ["hits", "wide", "s"])}
    assert found == {"hits": (2, "?")}  # what is inferred of the others is whole


OPAQUE = """<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
main (float[n,4] x, float[k] s) => (float[a,b] y) {
  g = com.microsoft.FusedMatMul<transB=1>(x, x)
  one = Constant<value_ints=[0]>()
  h = Unsqueeze(g, one)
  y = Neg(g)
}"""


def test_behind_an_operator_onnx_does_not_know_running_finds_names_and_numbers(tmp_path):
    proto = onnx.parser.parse_model(OPAQUE)
    for name in ("g", "h"):
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        proto.graph.value_info.append(info)
    path = tmp_path / "whole.onnx"
    onnx.save(proto, path)
    found = observe_types(path, ["g", "h"])
    assert [str(spec) for spec in found] == ["g:float32[n,n]", "h:float32[1,n,n]"]
    fixed = observe_types(path, ["g"], sizes={"n": 3})
    assert [str(spec) for spec in fixed] == ["g:float32[3,3]"]
    # A size to try at is none to fix to: it is varied, or nothing is a number.
    tried = observe_types(path, ["g", "h"], at={"n": 3})
    assert [str(spec) for spec in tried] == ["g:float32[n,n]", "h:float32[1,n,n]"]


def test_at_one_size_alone_nothing_tells_a_number_from_a_dynamic_size(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
main (float[n,4] x, float[3,4] fixed) => (float[a,b] y) {
  both = Add(x, fixed)
  g = com.microsoft.FusedMatMul<transB=1>(both, x)
  y = Neg(g)
}"""
    proto = onnx.parser.parse_model(text)
    info = onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, None)
    proto.graph.value_info.append(info)
    path = tmp_path / "whole.onnx"
    onnx.save(proto, path)
    (spec,) = observe_types(path, ["g"], at={"n": 3})  # 6 it refuses
    assert str(spec) == "g:float32[?,?]"


def test_a_model_that_runs_at_no_size_says_so(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x, float[n,5] z) => (float[n,9] y) {
  a = NonZero(x)
  y = MatMul(x, z)
}"""
    path = tmp_path / "whole.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(EngineError, match="runs at no size"):
        observe_types(path, ["a"])
