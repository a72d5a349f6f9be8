"""The first wrong value is found where nothing but outputs can be seen."""

import onnx
import pytest

from shipway.compare.bisection import Probe, Prober, bisect_model
from shipway.engines.base import EngineOptions
from shipway.engines.target import Target
from shipway.errors import EngineError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec, random_feeds

CHAIN = """
<ir_version: 10, opset_import: ["": 20]>
chain (float[4, 8] x) => (float[4, 8] y) {
  a = Exp (x)  b = Neg (a)  c = Sigmoid (b)  d = Tanh (c)  e = Cos (d)  f = Sin (e)  y = Abs (f)
}
"""
BRANCHES = """
<ir_version: 10, opset_import: ["": 20]>
branches (float[4, 8] x) => (float[4, 8] y) {
  a = Exp (x)  b = Neg (a)  p = Sin (x)  q = Cos (p)  r = Tanh (q)  s = Add (b, r)  y = Abs (s)
}
"""
NAMES = {CHAIN: "abcdefy", BRANCHES: "abpqrsy"}


class Scripted(Prober):
    """A prober with answers of its own: wrong from some values on, broken at others."""

    def __init__(self, model, wrong=(), broken=()):
        super().__init__(model, Target("openvino"), EngineOptions(), {}, lambda _: None)
        self.wrong, self.broken = set(wrong), set(broken)

    def _probe(self, name):
        if name in self.broken:
            return Probe(name, "broke", "no kernel for it")
        return Probe(name, "differs" if name in self.wrong else "same")


def model_of(text, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return PortableModel(
        (TensorSpec("x", "float32", (4, 8)),), (TensorSpec("y", "float32", (4, 8)),), onnx=path
    )


def search(text, tmp_path, **answers):
    prober = Scripted(model_of(text, tmp_path), **answers)
    return bisect_model(prober, list(NAMES[text]))


def test_a_clean_engine_takes_one_build(tmp_path) -> None:
    found = search(CHAIN, tmp_path)
    assert (found.verdict, found.culprit, len(found.probes)) == ("clean", "", 1)


@pytest.mark.parametrize("first", list("abcdefy"))
def test_the_first_wrong_value_of_a_chain(tmp_path, first) -> None:
    wrong = "abcdefy"[list("abcdefy").index(first) :]
    found = search(CHAIN, tmp_path, wrong=wrong)
    assert (found.verdict, found.culprit) == ("found", first)
    assert found.operator
    assert len(found.probes) <= 5


def test_a_fault_on_another_branch_does_not_deceive(tmp_path) -> None:
    """In the order of execution b comes before p: q, r are wrong, b behind the fault's place is right."""
    found = search(BRANCHES, tmp_path, wrong="qrsy")
    assert (found.verdict, found.culprit) == ("found", "q")
    found = search(BRANCHES, tmp_path, wrong="absy")
    assert (found.verdict, found.culprit) == ("found", "a")


def test_a_build_that_breaks_is_not_taken_for_a_difference(tmp_path) -> None:
    found = search(CHAIN, tmp_path, wrong="efy", broken="d")
    assert (found.verdict, found.culprit) == ("narrowed", "e")
    assert {probe.name: probe.outcome for probe in found.probes}["d"] == "broke"
    found = search(CHAIN, tmp_path, wrong="defy", broken="b")
    assert (found.verdict, found.culprit) == ("found", "d")


def test_outputs_that_cannot_be_built_are_no_finding(tmp_path) -> None:
    assert search(CHAIN, tmp_path, broken="y").verdict == "broke"


def test_a_real_engine_is_clean_and_a_wrong_golden_is_found(tmp_path) -> None:
    model = model_of(CHAIN, tmp_path)
    feeds = random_feeds(model.inputs, seed=0)
    clean = golden_values(model, feeds)
    prober = Prober(
        model, Target("onnxruntime"), EngineOptions(threads=1), feeds, clean.__getitem__
    )
    assert bisect_model(prober, list("abcdefy")).verdict == "clean"
    wrong = {**clean, **{name: clean[name] * 1.01 for name in "cdefy"}}
    prober = Prober(
        model, Target("onnxruntime"), EngineOptions(threads=1), feeds, wrong.__getitem__
    )
    assert bisect_model(prober, list("abcdefy")).culprit == "c"


def golden_values(model, feeds):
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(model.onnx))
    return evaluator.run(None, dict(feeds), intermediate=True)


def test_a_failing_engine_is_told_from_a_wrong_one(tmp_path, monkeypatch) -> None:
    def refuse(*_, **__):
        raise EngineError("no kernel for it")

    monkeypatch.setattr("shipway.compare.bisection.compile_target", refuse)
    model = model_of(CHAIN, tmp_path)
    prober = Prober(model, Target("onnxruntime"), EngineOptions(), {}, lambda _: None)
    found = bisect_model(prober, list("abcdefy"))
    assert found.verdict == "broke"
    assert "no kernel" in found.probes[0].detail
