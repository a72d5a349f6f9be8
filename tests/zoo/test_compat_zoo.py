"""Real models through the drop-ins: wires untied, edited and tied again change no number."""

from pathlib import Path

import onnx
import pytest

from shipway.compat.auto_optimizer import OnnxGraph
from shipway.compat.magiconnx import OnnxGraph as MagicGraph
from shipway.proof.graph import prove_graphs

pytestmark = [pytest.mark.assets, pytest.mark.slow]

MODELS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "models"
SIZES = {
    "oww_melspectrogram": {"batch_size": 1, "samples": 16000},
    "silero_vad_half": {"batch": 1, "sequence": 512},
    "silero_vad_op18_ifless": {"batch": 1, "sequence": 512},
}
NEEDS_EXTENSIONS = "espcn_prepost_op18"  # its operators are another package's


def insert_identities(graph, after: Path) -> None:
    nodes = [one for one in graph.nodes if "Sequence" not in one.op_type and one.outputs[0]]
    for number, node in enumerate(nodes[::5]):
        graph.insert_node(node.name, graph.add_node(f"identity_{number}", "Identity"))
    graph.save(after)
    onnx.checker.check_model(str(after))


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_inserting_identities_everywhere_changes_nothing(path: Path, tmp_path: Path) -> None:
    for open_graph in (MagicGraph, MagicGraph.parse, OnnxGraph.parse):
        after = tmp_path / "after.onnx"
        insert_identities(open_graph(str(path)), after)
    if path.stem != NEEDS_EXTENSIONS:
        sizes = [SIZES[path.stem]] if path.stem in SIZES else None
        proof = prove_graphs(path, after, kind="exact", sizes=sizes)
        assert proof.passed
        assert proof.trials
