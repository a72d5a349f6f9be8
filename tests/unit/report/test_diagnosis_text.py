from dataclasses import replace

import numpy as np
import pytest

from shipway.compare.diagnosis import Cause
from shipway.report.diagnosis_text import (
    describe_coverage,
    describe_culprit,
    group_reasons,
    write_multiple,
    write_verdict,
)


def facts(culprit, *, local=True):
    return dict(describe_culprit(culprit, local=local).facts)


def test_a_fault_is_named_with_module_operator_line_kind_and_why(diagnoses):
    verdict = write_verdict(diagnoses.make_diagnosis())
    assert not verdict.passed
    assert str(verdict) == (
        "FAULT in layers.3.norm2, aten.layer_norm.default 'norm2' "
        "(net.py:41  x = self.norm2(x)): "
        "approximation: eps 0.05 instead of 1e-05 explains 99.8 % of the error"
    )


def test_a_fault_without_module_or_source_is_named_by_its_operator(diagnoses):
    tensor = diagnoses.make_tensor(3, "/layer1/Add out", error=0.1, golden_op="Add")
    culprit = diagnoses.make_fault(tensor, operators=(), cause=Cause("gain", "gain is 1.1"))
    verdict = write_verdict(diagnoses.make_diagnosis(culprits=(culprit,)))
    assert str(verdict) == "FAULT in Add '/layer1/Add out': gain: gain is 1.1"


def test_of_several_operators_the_module_is_named_unless_the_cause_names_one(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    (found,) = diagnosis.culprits
    several = (("mul", "aten.mul.Tensor"), ("norm2", "aten.layer_norm.default"))
    unsure = replace(found, operators=several, cause=Cause("gain", "gain is 1.02"))
    assert "in layers.3.norm2 (net.py:41" in str(
        write_verdict(replace(diagnosis, culprits=(unsure,)))
    )
    assert facts(unsure)["operators"] == "aten.mul.Tensor 'mul', aten.layer_norm.default 'norm2'"
    sure = replace(unsure, cause=Cause("gain", "gain is 1.02", "mul"))
    verdict = str(write_verdict(replace(diagnosis, culprits=(sure,))))
    assert "in layers.3.norm2, aten.mul.Tensor 'mul' (" in verdict
    assert facts(sure)["operators"].endswith("; at fault: 'mul'")


def test_several_faults_are_counted(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    twice = replace(diagnosis, culprits=diagnosis.culprits * 3)
    assert str(write_verdict(twice)).endswith("(the first of 3 faults)")


def test_accumulated_errors_alone_do_not_prove_the_place(diagnoses):
    diagnosis = diagnoses.make_diagnosis(local=False)
    assert str(write_verdict(diagnosis)).startswith("FAULT at or before layers.3.norm2")
    (culprit,) = diagnosis.culprits
    blind = replace(culprit, tensor=replace(culprit.tensor, local=None))
    assert "local" not in facts(blind, local=False)
    assert facts(blind, local=False)["limits"].startswith("accumulated error 300x the limit: ")


def test_a_clean_engine_is_clean_and_says_by_which_limits(diagnoses):
    clean = diagnoses.make_diagnosis(fault=None)
    verdict = write_verdict(clean)
    assert verdict.passed
    assert str(verdict) == "CLEAN: 24 tensors within the local limits of f32"
    over = diagnoses.make_tensor(0, "gelu", error=1e-4, explained="precision only: 2 ulp")
    explained = replace(clean, tensors=(over, *clean.tensors[1:]))
    assert str(write_verdict(explained)).endswith(
        "23 tensors within the local limits of f32, 1 beyond them and explained"
    )


def test_different_inputs_come_before_any_fault(diagnoses):
    diagnosis = diagnoses.make_diagnosis(input_problems=("image: other numbers.", "mask: absent"))
    verdict = write_verdict(diagnosis)
    assert not verdict.passed
    assert str(verdict).startswith(
        "DIFFERENT INPUTS: image: other numbers (and 1 more). That is no fault of the engine"
    )


def test_nothing_compared_is_not_clean(diagnoses):
    verdict = write_verdict(diagnoses.make_diagnosis(tensors=(), culprits=()))
    assert not verdict.passed
    assert str(verdict).startswith("NOTHING COMPARED: onnxruntime:f32 and torch (model.pt2)")


def test_a_culprit_shows_errors_neighbours_effect_and_replay(diagnoses):
    (culprit,) = diagnoses.make_diagnosis().culprits
    shown = facts(culprit)
    assert shown["local"].startswith("relative L2 3.00e-03; worst channel ")
    assert shown["accumulated"].startswith("relative L2 3.00e-03; worst channel ")
    assert shown["engine"] == "SkipLayerNormalization 'val_33'"
    assert shown["limits"].startswith(
        "local error 300x the limit: relative L2 is 0.003, limit 1e-05; "
    )
    assert shown["inputs"] == "within limits: add_4 (0.02x)"
    assert shown["outputs"] == "logits ends with relative L2 2.10e-02"
    assert shown["replay"] == "replay/1-norm2"


def test_neighbours_beyond_their_limits_are_told_apart(diagnoses):
    (culprit,) = diagnoses.make_diagnosis().culprits
    mixed = replace(culprit, inputs={"a": 0.5, "b": 40.0, "c": float("nan")}, effect={"y": None})
    assert facts(mixed)["inputs"] == ("within limits: a (0.5x); beyond limits: b (40x), c (nan)")
    assert facts(mixed)["outputs"] == "y has no finite element to compare"


def test_integers_are_counted_and_nan_is_named(diagnoses):
    exact = diagnoses.make_exact(1, "argmax", np.array([1, 2, 3]), np.array([1, 5, 3]))
    assert facts(diagnoses.make_fault(exact))["local"] == "1 of 3 elements differ"
    tensor = diagnoses.make_tensor(1, "log", error=0.1)
    spoilt = replace(tensor.local, nonfinite_mismatches=7, relative_l2=None, worst_channel=None)
    shown = facts(diagnoses.make_fault(replace(tensor, local=spoilt, severity=float("inf"))))
    assert shown["limits"].startswith("local error inf the limit: ")
    assert shown["local"].startswith("relative L2 -; ")
    assert shown["local"].endswith("NaN or Inf on one side in 7 elements")


def test_the_coverage_groups_reasons_and_names_what_was_perturbed(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    shaken = replace(diagnosis.tensors[0], perturbed="outputs differ by 1 ulp")
    coverage = dict(
        describe_coverage(
            replace(diagnosis, tensors=(shaken, *diagnosis.tensors[1:]), identical=False)
        )
    )
    assert coverage["compared"] == (
        "24 tensors of onnxruntime:f32 against torch (model.pt2): 24 by name"
    )
    assert coverage["not compared"] == (
        "1 of the engine's tensors: 1 no tensor of golden has its numbers (reorder_1)"
    )
    assert coverage["not shown"].startswith("5 of golden's tensors: 5 fused into ... (view_0,")
    assert coverage["reading"] == (
        "reading the tensors changed the engine's outputs; perturbed: "
        "1 outputs differ by 1 ulp (linear_0)"
    )


def test_the_coverage_says_why_local_errors_are_missing(diagnoses):
    none = diagnoses.make_diagnosis(local=False, local_reason="golden is a folder of tensors")
    assert (
        "not measured: golden is a folder of tensors."
        in dict(describe_coverage(none))["local errors"]
    )
    diagnosis = diagnoses.make_diagnosis()
    part = replace(diagnosis.tensors[0], local=None)
    some = replace(diagnosis, tensors=(part, *diagnosis.tensors[1:]))
    assert dict(describe_coverage(some))["local errors"].endswith("except for 1 tensor")


def test_many_reasons_are_summed_up(diagnoses):
    reasons = {f"t{index}": f"reason {chr(97 + index)}" for index in range(9)}
    coverage = dict(describe_coverage(diagnoses.make_diagnosis(unmatched=reasons)))
    assert coverage["not compared"].endswith("4 for other reasons; --json lists them")


def test_reasons_of_one_kind_keep_their_words_where_they_are_equal():
    assert group_reasons({"a": "shape [2]", "b": "shape [2]"}) == [("shape [2]", ["a", "b"])]
    assert group_reasons({}) == []


@pytest.mark.parametrize(
    ("severity", "text"),
    [(0.0, "0x"), (0.004, "<0.01x"), (1.04, "1x"), (9.96, "10x"), (3e7, "3e+07x")],
)
def test_multiples_are_short(severity, text):
    assert write_multiple(severity) == text


def test_a_cause_without_words_is_its_kind_alone(diagnoses):
    (culprit,) = diagnoses.make_diagnosis().culprits
    silent = replace(culprit, cause=Cause("unknown", ""))
    verdict = write_verdict(diagnoses.make_diagnosis(culprits=(silent,)))
    assert str(verdict).endswith("(net.py:41  x = self.norm2(x)): unknown")
