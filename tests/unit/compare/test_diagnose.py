"""What is at fault is named where it is made, and nothing else is."""

import json

import numpy as np
import pytest
from small_graph import SmallEngine, SmallGolden, Step, feeds, relu, steps

from shipway.compare.diagnose import Diagnoser, diagnose
from shipway.compare.execution import read_session
from shipway.compare.options import DiagnoseOptions
from shipway.engines.tapping import TapCheck
from shipway.errors import TensorError
from shipway.trace.shelf import Shelf

NAMES = [step.name for step in steps()]


def localise(faults=None, *, hidden=(), dtype="float32", golden=None, **options):
    graph = steps()
    engine = SmallEngine(graph, faults or {}, hidden, dtype)
    precision = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[dtype]
    return diagnose(
        golden or SmallGolden(graph),
        engine,
        feeds(),
        options=DiagnoseOptions(precision=precision, **options),
    )


def scaled(name, by=1.05):
    function = next(step.function for step in steps() if step.name == name)
    return {name: lambda *inputs: function(*inputs) * np.float32(by)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_clean_engine_is_clean(dtype) -> None:
    found = localise(dtype=dtype)
    assert found.passed
    assert len(found.tensors) == len(NAMES)
    assert not found.unmatched
    assert not found.golden_only
    assert found.identical


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_found_where_it_is_made(name, dtype) -> None:
    found = localise(scaled(name), dtype=dtype)
    assert [culprit.tensor.golden for culprit in found.culprits] == [name]
    assert found.culprits[0].tensor.source == f"net.py:{10 + NAMES.index(name)}"
    assert not found.passed


def test_several_faults_are_all_found() -> None:
    found = localise({**scaled("linear"), **scaled("norm"), "relu": np.abs})
    assert [culprit.tensor.golden for culprit in found.culprits] == ["linear", "relu", "norm"]


def test_a_fault_in_what_is_not_shown_is_found_at_the_next_tensor() -> None:
    found = localise(scaled("linear"), hidden=("linear", "biased"))
    (culprit,) = found.culprits
    assert culprit.tensor.golden == "relu"
    assert [name for name, _ in culprit.operators] == ["linear", "biased", "relu"]
    assert set(found.golden_only) == {"linear", "biased"}


def test_one_fault_seen_in_two_tensors_is_one_fault() -> None:
    """relu is hidden; linear_1 and residual both are computed from it."""
    found = localise(scaled("relu"), hidden=("relu",))
    assert [culprit.tensor.golden for culprit in found.culprits] == ["linear_1"]
    other = next(one for one in found.tensors if one.golden == "residual")
    assert not other.verdict.passed
    assert "linear_1" in other.explained


def test_neighbours_and_effect_are_told() -> None:
    (culprit,) = localise(scaled("relu", 1.5)).culprits
    assert culprit.inputs.keys() == {"biased"}
    assert culprit.inputs["biased"] < 1
    assert set(culprit.readers) == {"linear_1", "residual"}
    assert max(culprit.readers.values()) < 1
    assert culprit.effect["probabilities"] > 0


def test_nan_is_found_at_its_source() -> None:
    def poison(x):
        y = relu(x)
        y[2, 3] = np.nan
        return y

    found = localise({"relu": poison})
    assert found.culprits[0].tensor.golden == "relu"
    assert len(found.culprits) == 1
    assert found.tensors[2].severity == np.inf


@pytest.mark.parametrize("more", [False, True])
def test_what_an_engine_makes_of_nan_is_not_another_fault(more) -> None:
    """Its ReLU makes 0 of it, as OpenVINO's does; what is wrong besides still is."""

    biased = next(step.function for step in steps() if step.name == "biased")

    def poison(x):
        y = biased(x)
        y[2, 3] = np.nan
        return y

    def swallow(x):
        return np.nan_to_num(relu(x)) * np.float32(1.05 if more else 1)

    found = localise({"biased": poison, "relu": swallow})
    faults = [culprit.tensor.golden for culprit in found.culprits]
    assert faults == (["biased", "relu"] if more else ["biased"])
    after = next(one for one in found.tensors if one.golden == "relu")
    assert ("come in with 'biased'" in after.explained) is not more


def test_a_local_error_does_not_add_up() -> None:
    found = localise(scaled("linear", 1.5))
    behind = [one for one in found.tensors if one.golden in {"biased", "relu", "linear_1"}]
    assert all(one.accumulated.relative_l2 > 1e-2 for one in behind)
    assert all(one.local.relative_l2 < 1e-6 for one in behind)


def test_memory_is_bounded_and_the_result_is_the_same() -> None:
    assert localise(scaled("norm"), max_bytes=0).to_json() == localise(scaled("norm")).to_json()


def test_the_smallest_piece_is_written(tmp_path) -> None:
    found = localise(scaled("residual"), replay=tmp_path / "replay")
    folder = tmp_path / "replay" / "01-residual"
    assert found.culprits[0].replay == str(folder)
    piece = json.loads((folder / "piece.json").read_text())
    assert piece["output"] == "residual"
    assert set(piece["inputs"]) == {"linear_1", "relu"}
    expected, actual = np.load(folder / "expected.npy"), np.load(folder / "actual.npy")
    np.testing.assert_allclose(actual, expected * 1.05, rtol=1e-5)
    assert (folder / "replay.py").is_file()


def test_models_without_a_common_tensor_are_refused() -> None:
    other = SmallGolden(steps(7))
    for step in other.graph:
        step.name = f"other.{step.name}"
        step.inputs = tuple("x" if name == "x" else f"other.{name}" for name in step.inputs)
    other.__post_init__()
    with pytest.raises(TensorError, match="different models"):
        localise(golden=other)


def test_only_so_many_causes_are_looked_into() -> None:
    found = localise({**scaled("linear"), **scaled("relu"), **scaled("norm")}, causes=1)
    assert len(found.culprits) == 3
    assert "not looked into" in found.culprits[2].cause.explanation


def test_everything_is_plain_data() -> None:
    data = localise({**scaled("norm"), "softmax": lambda x: x * np.nan}).to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_other_inputs_are_said_to_be_others() -> None:
    with Shelf(1 << 20) as shelf:
        actual = read_session(SmallEngine(steps()), feeds(2), shelf, "engine")
        found = Diagnoser(SmallGolden(steps()), feeds(1)).diagnose(actual, DiagnoseOptions())
    assert not found.culprits
    assert not found.passed
    assert "'x' differs" in found.input_problems[0]
    assert set(found.unmatched) >= set(NAMES)


def test_a_tensor_that_was_changed_by_reading_it_is_not_blamed() -> None:
    """It comes from a run of its own: golden is not fed with it, and what is behind it is judged."""
    engine = SmallEngine(steps(), scaled("relu"))
    stream = engine.stream

    def perturbing(feeds, names=None):
        yield from stream(feeds, names)
        engine.check = TapCheck(identical=False, perturbed={"relu": "in another way"})

    engine.stream = perturbing
    found = diagnose(SmallGolden(steps()), engine, feeds())
    assert [culprit.tensor.golden for culprit in found.culprits] == ["linear_1"]
    assert [name for name, _ in found.culprits[0].operators] == ["relu", "linear_1"]
    assert (
        "changing the engine"
        in next(one for one in found.tensors if one.golden == "relu").explained
    )


def test_what_is_nan_in_golden_too_is_nobodys_fault() -> None:
    """It is not passed either: nothing about it was shown."""
    graph = steps()
    graph[6].function = lambda x: np.full_like(x, np.nan)
    found = diagnose(SmallGolden(graph), SmallEngine(graph), feeds())
    assert not found.culprits
    scaled_tensor = next(one for one in found.tensors if one.golden == "scaled")
    assert not scaled_tensor.verdict.passed
    assert "in golden too" in scaled_tensor.explained


def test_a_transposed_copy_of_what_is_known_by_name_is_left_alone() -> None:
    """It may be a step of the engine's own: a fault in it would be blamed on golden's tensor."""
    heads = Step("heads", "Reshape", lambda x: x.reshape(2, 4, 16), ("x",))
    turned = Step("turned", "Transpose", lambda x: x.transpose(1, 0, 2), ("heads",))
    end = Step("end", "Exp", np.exp, ("turned",))
    kept = Step("kept", "Transpose", lambda x: x.transpose(0, 2, 1), ("turned",))
    back = Step("end", "Exp", lambda x: np.exp(x.transpose(0, 2, 1)), ("kept",))
    wrong = {"turned": lambda x: x.reshape(4, 2, 16)}
    found = diagnose(
        SmallGolden([heads, turned, end]),
        SmallEngine([heads, turned, kept, back], wrong),
        feeds(),
        clean=SmallEngine([heads, turned, kept, back]),
    )
    assert "in another order" in found.unmatched["kept"]
    assert [culprit.tensor.golden for culprit in found.culprits] == ["turned"]
