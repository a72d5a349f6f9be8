import json
import math
from dataclasses import replace

import numpy as np
import pytest

from shipway.compare.diagnosis import Diagnosis, TensorComparison
from shipway.compare.metrics import measure
from shipway.compare.profile import profile_of


def through_json(diagnosis):
    return Diagnosis.from_json(json.loads(json.dumps(diagnosis.to_json(), allow_nan=False)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fault": None},
        {"local": False, "local_reason": "no golden runs", "identical": None},
        {"tensors": (), "culprits": (), "input_problems": ("x differs",)},
    ],
)
def test_a_diagnosis_survives_json(diagnoses, changes):
    diagnosis = diagnoses.make_diagnosis(**changes)
    assert through_json(diagnosis) == diagnosis
    assert through_json(diagnosis).passed == diagnosis.passed


def test_what_has_no_number_in_json_survives_too(diagnoses):
    zeros = np.zeros(4)
    diagnosis = diagnoses.make_diagnosis()
    endless = replace(
        diagnosis.tensors[9],
        accumulated=measure(zeros, zeros + 1),
        local=None,
        severity=math.inf,
        channel_errors=(math.inf, 0.5),
    )
    culprit = replace(
        diagnosis.culprits[0],
        tensor=endless,
        inputs={"a": math.inf},
        effect={"y": None, "z": math.inf},
    )
    tensors = (*diagnosis.tensors[:9], endless, *diagnosis.tensors[10:])
    odd = replace(diagnosis, tensors=tensors, culprits=(culprit,))
    assert through_json(odd) == odd


def test_of_twins_the_culprit_finds_its_own(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    twin = replace(diagnosis.tensors[9], actual="val_34", explained="computed with norm2")
    twins = replace(diagnosis, tensors=(*diagnosis.tensors, twin))
    assert through_json(twins).culprits[0].tensor.actual == "val_33"


def test_a_field_that_is_missing_is_named(diagnoses):
    data = diagnoses.make_tensor(0, "x").to_json()
    del data["op"]
    with pytest.raises(KeyError, match="op"):
        TensorComparison.from_json(data)


def test_a_fault_that_is_explained_is_none(diagnoses):
    tensor = diagnoses.make_tensor(0, "x", error=0.1)
    assert tensor.at_fault
    assert not replace(tensor, explained="precision only").at_fault
    assert replace(tensor, local=None).judged is tensor.accumulated


@pytest.mark.parametrize("channels", [8, 64, 65, 130, 1000])
def test_the_profile_of_a_tensor_joins_runs_of_equal_length(channels):
    golden = np.random.default_rng(0).standard_normal((2, channels, 3))
    actual = golden.copy()
    wrong = channels * 2 // 3
    actual[:, wrong] *= 1.5
    kept = profile_of(measure(golden, actual), golden, actual)
    run = -(-channels // 64)
    assert len(kept) == -(-channels // run)
    assert [index for index, error in enumerate(kept) if error > 0] == [wrong // run]


def test_a_tensor_without_elements_has_no_profile():
    empty = np.zeros((2, 0, 3))
    assert profile_of(measure(empty, empty), empty, empty) == ()
