"""Two stored executions: accumulated errors, and lower bounds where only statistics were kept."""

import dataclasses

import numpy as np
import pytest
from small_graph import SmallEngine, SmallGolden, feeds, steps

from shipway.compare.diagnose import Diagnoser
from shipway.compare.execution import Execution, read_golden, read_session
from shipway.compare.metrics import measure
from shipway.compare.options import DiagnoseOptions
from shipway.compare.stored import bound_metrics, diagnose_stored
from shipway.errors import TensorError
from shipway.trace.records import InputRecord
from shipway.trace.shelf import Shelf
from shipway.trace.statistics import summarize


@pytest.fixture
def shelf():
    with Shelf(1 << 20) as shelf, Shelf(1 << 20) as other:
        yield shelf, other


def executions(shelf, faults=None) -> tuple[Execution, Execution]:
    golden = read_golden(SmallGolden(steps()), feeds(), shelf[0])
    engine = SmallEngine(steps(), faults or {})
    return golden, read_session(engine, feeds(), shelf[1], "engine")


def without_values(execution: Execution) -> Execution:
    return dataclasses.replace(execution, read=lambda _: None)


WRONG = {"norm": lambda x: x * np.float32(1.2)}


def test_equal_executions_are_clean(shelf) -> None:
    found = diagnose_stored(*executions(shelf), DiagnoseOptions())
    assert found.passed
    assert not found.local
    assert found.local_reason


@pytest.mark.parametrize("stats_only", [False, True])
def test_the_first_tensor_beyond_its_limit_is_named(shelf, stats_only) -> None:
    golden, actual = executions(shelf, WRONG)
    if stats_only:
        actual = without_values(actual)
    found = diagnose_stored(golden, actual, DiagnoseOptions())
    (culprit,) = found.culprits
    assert culprit.tensor.golden == "norm"
    behind = [one for one in found.tensors if one.golden in {"scaled", "softmax"}]
    assert all(not one.verdict.passed and "'norm'" in one.explained for one in behind)
    assert culprit.effect["softmax"] > 0
    note = found.tensors[0].match.note
    assert ("lower bounds" in note) is stats_only


def test_different_inputs_are_no_fault(shelf) -> None:
    golden, actual = executions(shelf, WRONG)
    golden.inputs = {"x": InputRecord("float32", (8, 16), 1)}
    actual.inputs = {"x": InputRecord("float32", (8, 16), 2)}
    found = diagnose_stored(golden, actual, DiagnoseOptions())
    assert not found.culprits
    assert not found.passed
    assert "'x' differs" in found.input_problems[0]


def test_executions_of_different_models_are_refused(shelf) -> None:
    golden, actual = executions(shelf)
    other = Execution("other")
    for tap in actual.taps:
        other.add(dataclasses.replace(tap, name=f"n{tap.order}", names=()), np.ones((3, 3)))
    with pytest.raises(TensorError, match="different models"):
        diagnose_stored(golden, other, DiagnoseOptions())


@pytest.mark.parametrize("seed", range(20))
def test_statistics_never_say_more_than_the_values_do(seed) -> None:
    """Lower bounds are lower: a comparison of statistics alone has no false alarm the values lack."""
    rng = np.random.default_rng(seed)
    golden = rng.standard_normal((2, 6, 5)).astype(np.float32)
    actual = golden + rng.standard_normal(golden.shape).astype(np.float32) * 10.0 ** -rng.integers(
        1, 6
    )
    bound = bound_metrics(summarize(golden), summarize(actual), "float32")
    exact = measure(golden, actual)
    assert bound.relative_l2 <= exact.relative_l2 * (1 + 1e-6)
    assert bound.worst_channel <= exact.worst_channel * (1 + 1e-6)
    assert bound.max_abs <= exact.max_abs * (1 + 1e-6)


def test_nan_in_statistics_never_passes(shelf) -> None:
    golden, actual = executions(shelf, {"relu": lambda x: np.full_like(x, np.nan)})
    found = diagnose_stored(golden, without_values(actual), DiagnoseOptions())
    assert found.culprits[0].tensor.golden == "relu"


def test_inputs_of_other_names_are_compared_by_position(shelf) -> None:
    """A module calls its input "x", the model exported from it "image"."""
    golden, actual = executions(shelf)
    actual.inputs = {"image": next(iter(golden.inputs.values()))}
    assert diagnose_stored(golden, actual, DiagnoseOptions()).passed
    actual.inputs = {"image": InputRecord("float32", (8, 16), 2)}
    assert diagnose_stored(golden, actual, DiagnoseOptions()).input_problems


def test_an_unfinished_trace_is_said_to_be_one(shelf) -> None:
    golden, actual = executions(shelf)
    actual.taps = actual.taps[:4]
    actual.complete = False
    found = diagnose_stored(golden, actual, DiagnoseOptions())
    assert "cut short" in found.golden_only["softmax"]
    feeds_used = Diagnoser(SmallGolden(steps()), feeds()).diagnose(actual, DiagnoseOptions())
    assert "cut short" in feeds_used.golden_only["softmax"]
