"""Graphs grown at random, full of size arithmetic, compute afterwards what they computed before."""

from pathlib import Path

import onnx
import pytest
from hostile.checking import Allowance, check
from hostile.growing import grown
from hostile.proposals import ON_SIZES, ON_TENSORS
from hostile.wrapping import called_twice, paired

from shipway.graph.loading import load_graph
from shipway.graph.passes.catalogue import ALL_RULES
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph

STEPS = 60
# Sums of numbers that cancel out have no digits that reassociation leaves alone.
INEXACT = frozenset(rule.name for rule in ALL_RULES if rule.kind != "exact")


def judge(seed: int, folder: Path) -> int:
    """Return how many sets of inputs were compared."""
    model, feeds = grown(seed, (*ON_TENSORS, *ON_SIZES), STEPS)
    if not feeds:
        return 0
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(model, before)
    graph = load_graph(before)
    report = simplify_graph(graph, SimplifyOptions(skip=INEXACT))
    save_graph(graph, after)
    assert {change.kind for change in report.changes} <= {"exact"}
    check(model, onnx.load(after), feeds, allowance=Allowance(exact=True))
    return len(feeds)


def judge_in_functions(seed: int, folder: Path) -> int:
    """The same, taken apart into functions; a second time changes nothing."""
    grown_model, feeds = grown(seed, (*ON_TENSORS, *ON_SIZES), STEPS)
    if not feeds:
        return 0
    model = called_twice(grown_model, seed)
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(model, before)
    graph, options = load_graph(before), SimplifyOptions(skip=INEXACT)
    report = simplify_graph(graph, options)
    save_graph(graph, after)
    check(model, onnx.load(after), paired(feeds), allowance=Allowance(exact=True))
    assert report.nodes_after <= report.nodes_before
    assert simplify_graph(load_graph(after), options).changes == ()
    return len(feeds)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_ten_grown_graphs_in_functions(first: int, tmp_path: Path) -> None:
    assert sum(judge_in_functions(seed, tmp_path) for seed in range(first, first + 10)) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3000, 500))
def test_five_hundred_grown_graphs_in_functions(first: int, tmp_path: Path) -> None:
    assert sum(judge_in_functions(seed, tmp_path) for seed in range(first, first + 500)) >= 500


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_twenty_grown_graphs(first: int, tmp_path: Path) -> None:
    assert sum(judge(seed, tmp_path) for seed in range(first, first + 20)) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 5000, 500))
def test_five_hundred_grown_graphs(first: int, tmp_path: Path) -> None:
    assert sum(judge(seed, tmp_path) for seed in range(first, first + 500)) >= 500
