"""Graphs grown at random, full of size arithmetic, compute afterwards what they computed before."""

from pathlib import Path

import onnx
import pytest
from hostile.checking import Allowance, check
from hostile.growing import grown
from hostile.proposals import ON_SIZES, ON_TENSORS

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


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_twenty_grown_graphs(first: int, tmp_path: Path) -> None:
    assert sum(judge(seed, tmp_path) for seed in range(first, first + 20)) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 5000, 500))
def test_five_hundred_grown_graphs(first: int, tmp_path: Path) -> None:
    assert sum(judge(seed, tmp_path) for seed in range(first, first + 500)) >= 500
