"""Proofs of exports: right ones pass, wrong ones fail and say where."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from shipway.artifact import load_artifact
from shipway.errors import EngineError, ExportError, TensorError
from shipway.export.model import export_model, load_portable
from shipway.export.options import ExportOptions
from shipway.export.portable import PortableModel
from shipway.proof.export import prove_export, save_proof
from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, image, weight):
        x = torch.relu(self.bn(self.conv(image))).mean((2, 3))
        scores = self.head(x) * weight
        return {"scores": scores, "best": scores.argmax(-1)}


def source(module, *specs):
    inputs = tuple(parse_spec(spec) for spec in specs)
    return LoadedSource("module", "net.py:Net", inputs, (), module=module.eval())


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    module = Net()
    module.bn.running_mean.normal_()
    module.bn.running_var.uniform_(0.5, 2)
    return source(module, "image:f32[batch,2,h,w]", "weight:f32[3]")


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    return export_model(net, tmp_path_factory.mktemp("net"))


def tamper(model, folder, change):
    """Copy an export and change its ONNX file."""
    proto = onnx.load(model.onnx)
    change(proto)
    path = folder / "model.onnx"
    onnx.save(proto, path)
    facts = dataclasses.replace(load_artifact(model.onnx, verify=False), path=path, companions=())
    facts.save()
    return dataclasses.replace(model, onnx=path)


def test_a_right_export_passes_at_every_size(exported):
    """Several input sets at the export's sizes, the smallest, larger ones and mixtures."""
    proof = prove_export(exported, input_sets=2)
    assert proof.passed
    assert proof.worst_relative_l2 < 1e-5
    sizes = [trial.sizes for trial in proof.trials]
    assert len(sizes) == 2 * len({tuple(one.items()) for one in sizes})
    assert {one["batch"] for one in sizes} == {1, 4, 8}
    assert min(one["h"] for one in sizes) < 64 < max(one["h"] for one in sizes)
    names = {output.name for trial in proof.trials for output in trial.comparison.outputs}
    assert names == {"scores", "best"}
    assert len({trial.inputs for trial in proof.trials}) == len(proof.trials)


def test_a_proof_is_repeatable_and_follows_its_seed(exported):
    """The same seed gives the same numbers."""
    sizes = [{"batch": 2, "h": 9, "w": 8}]
    first, again = (prove_export(exported, input_sets=1, seed=5, sizes=sizes) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert first.trials[0].inputs == "random, seed 5"
    other = prove_export(exported, input_sets=1, seed=6, sizes=sizes)
    assert other.to_json()["trials"][0] != first.to_json()["trials"][0]


def test_a_proof_is_written_as_json(exported, tmp_path):
    """With its verdict."""
    proof = prove_export(exported, input_sets=1, sizes=[{"batch": 2, "h": 9, "w": 8}])
    save_proof(proof, tmp_path / "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["passed"] is True
    assert data["step"] == "export"
    assert data["notes"] == []


def test_one_wrong_weight_fails_every_trial(exported, tmp_path):
    """Two percent on one row of one weight."""

    def change(proto):
        weight = next(item for item in proto.graph.initializer if item.name == "head.weight")
        values = numpy_helper.to_array(weight).copy()
        values[1] *= 1.02
        weight.CopyFrom(numpy_helper.from_array(values, "head.weight"))

    proof = prove_export(tamper(exported, tmp_path, change), input_sets=1)
    assert not proof.passed
    assert not any(trial.comparison.passed for trial in proof.trials)
    assert proof.worst_relative_l2 > 1e-3


def test_a_size_only_pytorch_takes_fails_the_proof(exported, tmp_path):
    """The mistake every exporter has made once: a size of the example is baked in."""

    def change(proto):
        graph = proto.graph
        shape = numpy_helper.from_array(np.array([4, 3], np.int64), "fixed")
        graph.initializer.append(shape)
        output = next(item for item in graph.output if item.name == "scores")
        producer = next(node for node in graph.node if "scores" in node.output)
        for node in graph.node:
            node.input[:] = ["inner" if name == "scores" else name for name in node.input]
        producer.output[0] = "inner"
        graph.node.append(onnx.helper.make_node("Reshape", ["inner", "fixed"], [output.name]))

    proof = prove_export(tamper(exported, tmp_path, change), input_sets=1)
    verdicts = {trial.sizes["batch"]: trial.comparison.passed for trial in proof.trials}
    assert verdicts == {4: True, 1: False, 8: False}
    failed = next(trial for trial in proof.trials if trial.sizes["batch"] == 1)
    assert set(failed.comparison.coverage.skipped) == {"scores", "best"}
    assert "fails where PyTorch runs" in failed.comparison.coverage.skipped["scores"]
    assert failed.comparison.outputs == ()


def test_bounds_of_the_export_are_bounds_of_the_proof(net, tmp_path):
    """The user said what the model is for; they come from the side-car."""
    options = ExportOptions(bounds={"batch": (2, 5), "h": (8, 80), "w": (8, 80)})
    export_model(net, tmp_path, options=options)
    proof = prove_export(load_portable(tmp_path), input_sets=1)
    assert proof.passed
    assert {trial.sizes["batch"] for trial in proof.trials} == {2, 4, 5}
    assert {trial.sizes["h"] for trial in proof.trials} == {8, 64, 80}


def test_a_model_without_dynamic_dimensions_is_proved_on_several_inputs(tmp_path):
    """There are no sizes to vary."""
    model = export_model(source(nn.Linear(4, 3), "input:f32[2,4]"), tmp_path)
    proof = prove_export(model, input_sets=4)
    assert proof.passed
    assert [trial.sizes for trial in proof.trials] == [{}] * 4


class Decides(nn.Module):
    def forward(self, x):
        return x + 1 if x.mean() > 5 else x * 2


@pytest.fixture(scope="module")
def without_program(tmp_path_factory):
    """torch.export refuses the module; the old tracer keeps one branch."""
    options = ExportOptions(opset=13, legacy=True)
    return export_model(
        source(Decides(), "x:f32[n,3]"), tmp_path_factory.mktemp("d"), options=options
    )


def test_without_a_program_there_is_no_proof_and_the_reason_is_given(without_program):
    """Nothing is taken as golden in its place."""
    with pytest.raises(
        ExportError, match=r"no PyTorch program .* decides on the value of a tensor"
    ) as caught:
        prove_export(without_program)
    assert "module=module" in caught.value.hint


def test_the_module_itself_can_be_golden(without_program, exported, net):
    """For models that have no program, and to prove torch.export along with the rest."""
    proof = prove_export(without_program, module=Decides(), input_sets=1)
    assert proof.passed
    assert proof.trials[0].comparison.golden == "torch (eager)"
    assert prove_export(exported, module=net.module, input_sets=1).passed


def test_another_module_is_not_taken_for_the_exported_one(exported):
    """Other weights fail; another signature or number of outputs is an error."""
    torch.manual_seed(1)
    assert not prove_export(exported, module=Net().eval(), input_sets=1).passed

    class Fewer(nn.Module):
        def forward(self, image, weight):
            return image.mean() * weight

    with pytest.raises(ExportError, match="returns 1 tensors; the export has 2"):
        prove_export(exported, module=Fewer(), input_sets=1)
    with pytest.raises(ExportError, match="do not fit forward"):
        prove_export(exported, module=nn.Linear(2, 2), input_sets=1)


def test_sizes_that_are_given_and_that_pytorch_refuses_are_an_error(exported):
    """They were asked for; leaving them out would be a lie."""
    with pytest.raises((EngineError, TensorError), match="4 to any"):
        prove_export(exported, sizes=[{"batch": 1, "h": 2, "w": 2}])


def test_there_must_be_something_to_prove():
    """A model of no form at all."""
    with pytest.raises(ExportError, match="no ONNX model to prove"):
        prove_export(PortableModel((), ()))


def test_progress_is_told_of_every_trial(exported):
    """As many as were announced."""
    seen = []

    class Counter:
        def start(self, task, total=None):
            seen.append((task, total))

        def advance(self, steps=1):
            seen.append(steps)

    proof = prove_export(
        exported, input_sets=2, sizes=[{"batch": 1, "h": 8, "w": 8}], progress=Counter()
    )
    assert seen == [("prove the export", 2), 1, 1]
    assert len(proof.trials) == 2


class Squeezes(nn.Module):
    """A sample alone loses its axis."""

    def forward(self, x):
        return x.squeeze() * 2


class ReadsItsBatch(nn.Module):
    """torch takes a size that is read back from a tensor to be 2 or more."""

    def forward(self, x):
        size = torch.tensor(x.shape[0]).item()
        return torch.ones(size, 4) * x


class TakesTheFirst(nn.Module):
    def forward(self, x):
        return x[0]


class MergesSamples(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1)


class Recurs(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


def findings_of(proof):
    return {(one.severity, one.kind, one.value) for one in proof.findings}


@pytest.mark.parametrize(
    ("module", "line"),
    [(Squeezes, "return x.squeeze() * 2"), (ReadsItsBatch, "torch.tensor(x.shape[0]).item()")],
)
def test_a_size_that_only_the_module_takes_fails_the_proof(tmp_path, module, line):
    """torch.export traces the model without a word, and its program refuses one sample."""
    model = export_model(source(module(), "x:f32[batch,4]"), tmp_path)
    proof = prove_export(model, input_sets=1, original=module)
    assert not proof.passed
    lost = next(one for one in proof.findings if one.kind == "lost-size")
    assert (lost.severity, lost.value) == ("error", "batch")
    assert "takes batch=1 and its export does not" in lost.message
    assert "test_export.py:" in lost.place.source
    assert line in lost.place.source
    assert "--bound batch=2..12" in lost.hint
    assert proof.to_json()["findings"][0]["place"]["source"] == lost.place.source


def test_a_bound_says_that_the_size_is_not_needed(tmp_path):
    """The next command of the error above."""
    options = ExportOptions(bounds={"batch": (2, 12)})
    model = export_model(source(Squeezes(), "x:f32[batch,4]"), tmp_path, options=options)
    proof = prove_export(model, input_sets=1, original=Squeezes)
    assert proof.passed
    assert not proof.findings


def test_a_size_that_the_module_refuses_too_is_a_note(tmp_path):
    """An image smaller than the kernel."""
    module = nn.Conv2d(3, 2, 5).eval()
    model = export_model(source(module, "x:f32[1,3,h,w]"), tmp_path)
    proof = prove_export(model, input_sets=1, original=lambda: module)
    assert proof.passed
    assert not proof.findings


@pytest.mark.parametrize(
    ("module", "kind", "value"),
    [(TakesTheFirst, "ignored-dim", "batch"), (MergesSamples, "merged-dim", "output")],
)
def test_a_batch_that_no_output_has_is_a_warning_with_its_line(tmp_path, module, kind, value):
    """It may be meant; whoever did not mean it learns it here."""
    model = export_model(source(module(), "x:f32[batch,4]"), tmp_path)
    proof = prove_export(model, input_sets=1, original=module)
    assert proof.passed
    assert findings_of(proof) == {("warning", kind, value)}
    assert "test_export.py:" in proof.findings[0].place.source


def test_a_recurrence_keeps_its_length(tmp_path):
    """torch.onnx alone declares the length of the example for it."""
    torch.manual_seed(0)
    model = export_model(source(Recurs(), "x:f32[batch,time,4]"), tmp_path)
    proof = prove_export(model, input_sets=1, original=Recurs)
    assert proof.passed
    assert not proof.findings


def test_one_sample_is_tried_though_small_images_fail(tmp_path):
    """All dimensions at their smallest is more than a convolution takes; one alone is not."""
    module = nn.Conv2d(3, 2, 5).eval()
    model = export_model(source(module, "x:f32[batch,3,h,w]"), tmp_path)
    sizes = [trial.sizes for trial in prove_export(model, input_sets=1).trials]
    assert any(one["batch"] == 1 and one["h"] >= 64 for one in sizes)


class CountsInPython(nn.Module):
    def forward(self, x):
        return torch.zeros(int(x.shape[0]), 4) + x


def test_the_old_tracer_bakes_a_size_in_and_the_proof_names_it(tmp_path):
    """torch.export refuses the module and names the line; the tracer does not ask."""
    options = ExportOptions(opset=17, legacy=True)
    module = CountsInPython()
    model = export_model(source(module, "x:f32[batch,4]"), tmp_path, options=options)
    proof = prove_export(model, module=module, input_sets=1)
    assert not proof.passed
    assert ("error", "fixed-dim", "batch") in findings_of(proof)
    assert any("test_export.py:" in note and "int(x.shape[0])" in note for note in proof.notes)
