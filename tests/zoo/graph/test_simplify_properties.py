"""What holds of simplify whatever the graph: a second time changes nothing, twice gives the same."""

from pathlib import Path

import onnx
import pytest
from hostile.cases import CARRIED, CASES
from hostile.checking import check, check_signature, compare, node_types
from hostile.execution import run_model
from hostile.simplifying import EACH_PROFILE, simplified

from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph

both = pytest.mark.parametrize("profile", EACH_PROFILE)
every = pytest.mark.parametrize("name", CARRIED)


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


@both
@every
def test_second_time_changes_nothing(name: str, profile: str, tmp_path: Path) -> None:
    once = simplified(CASES[name].model, profile, folder(tmp_path, "once"))
    twice = simplified(once.model, profile, folder(tmp_path, "twice"))
    assert [change.rule for change in twice.report.changes] == []
    assert twice.model == once.model


@both
@every
def test_same_bytes_each_time(name: str, profile: str, tmp_path: Path) -> None:
    first = simplified(CASES[name].model, profile, folder(tmp_path, "first"))
    second = simplified(CASES[name].model, profile, folder(tmp_path, "second"))
    assert first.report.changes == second.report.changes
    golden, actual = ((tmp_path / run / "after.onnx").read_bytes() for run in ("first", "second"))
    assert golden == actual


@both
@every
def test_signature_and_counts(name: str, profile: str, tmp_path: Path) -> None:
    case = CASES[name]
    done = simplified(case.model, profile, tmp_path)
    check_signature(case.model, done.model)
    assert done.report.nodes_before == len(node_types(case.model))
    assert done.report.nodes_after == len(node_types(done.model)) <= done.report.nodes_before


@every
def test_limit_zero_changes_nothing_that_is_read(name: str, tmp_path: Path) -> None:
    """Without a change only what nobody reads may go: that is where a bisection starts."""
    case, path = CASES[name], tmp_path / "before.onnx"
    onnx.save(case.model, path)
    model = load_graph(path)
    assert simplify_graph(model, SimplifyOptions(limit=0)).changes == ()
    save_graph(model, tmp_path / "after.onnx")
    check(case.model, onnx.load(tmp_path / "after.onnx"), case.feeds, case.kind)


@every
def test_limit_makes_the_first_changes(name: str, tmp_path: Path) -> None:
    """A limit of n makes the first n changes of the whole run, and the result computes the same."""
    case, path = CASES[name], tmp_path / "before.onnx"
    onnx.save(case.model, path)
    whole = simplify_graph(load_graph(path)).changes
    limit, model = len(whole) // 2, load_graph(path)
    assert simplify_graph(model, SimplifyOptions(limit=limit)).changes == whole[:limit]
    save_graph(model, tmp_path / "after.onnx")
    exact = all(change.kind == "exact" for change in whole[:limit])
    expected = run_model(case.model, case.feeds) if case.kind == "equal" else []
    actual = run_model(onnx.load(tmp_path / "after.onnx"), case.feeds) if expected else []
    for before, after in zip(expected, actual, strict=True):
        for output, value in before.items():
            compare(value, after[output], exact, output)


@every
def test_skipped_rules_are_not_used(name: str, tmp_path: Path) -> None:
    path = tmp_path / "before.onnx"
    onnx.save(CASES[name].model, path)
    used = frozenset(change.rule for change in simplify_graph(load_graph(path)).changes)
    again = simplify_graph(load_graph(path), SimplifyOptions(skip=used))
    assert used.isdisjoint(change.rule for change in again.changes)
