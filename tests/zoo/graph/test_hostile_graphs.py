"""Every hostile graph in every profile computes afterwards what it computed before."""

from pathlib import Path

import onnx
import pytest
from hostile.cases import CARRIED, CASES
from hostile.checking import check, compare
from hostile.execution import run_model
from hostile.simplifying import EACH_PROFILE, simplified

from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import simplify_graph


@pytest.mark.parametrize("profile", EACH_PROFILE)
@pytest.mark.parametrize("name", CARRIED)
def test_same_model_afterwards(name: str, profile: str, tmp_path: Path) -> None:
    case = CASES[name]
    done = simplified(case.model, profile, tmp_path)
    check(case.model, done.model, case.feeds, case.kind, done.allowance(case.keeps))


WITH_WEIGHTS = (
    "two_norms_share_one_weight",
    "transposed_weight_read_both_ways",
    "narrow_constants_of_every_kind",
    "overridable_initializer",
    "if_with_a_constant_condition",
    "quantised_weights_stay_quantised",
)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_same_model_with_its_weights_in_another_file(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path, result = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(case.model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = load_graph(path)
    report = simplify_graph(model)
    save_graph(model, result)
    exact = all(change.kind == "exact" for change in report.changes)
    for golden, actual in zip(
        run_model(case.model, case.feeds), run_model(onnx.load(result), case.feeds), strict=True
    ):
        for output, value in golden.items():
            compare(value, actual[output], exact, output)
