"""Real models through the profiles that write something of their own."""

from pathlib import Path

import pytest

from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph
from shipway.proof.graph import prove_graphs

pytestmark = pytest.mark.assets


@pytest.mark.parametrize("name", ["dtln_model_1", "gtcrn_simple", "yunet_n_dynamic"])
def test_ascend_narrows_indices_and_changes_no_number(
    assets: Path, tmp_path: Path, name: str
) -> None:
    before, after = assets / "models" / f"{name}.onnx", tmp_path / "after.onnx"
    model = load_graph(before)
    result = simplify_graph(model, SimplifyOptions(profile="ascend"))
    save_graph(model, after)
    assert result.rules["narrow_indices"]
    assert after.stat().st_size <= before.stat().st_size
    proof = prove_graphs(before, after)
    assert proof.passed
    assert proof.trials
