"""What becomes of the file when the proof of an edit fails."""

from types import SimpleNamespace

import onnx
import onnx.parser

from shipway.cli.graph_edit import edit
from shipway.proof import graph as proving

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
g (float[n,4] x) => (float[n] y) <int64 i = {1}> { y = Gather<axis=1>(x, i) }
"""


def test_a_file_that_is_not_proved_is_kept_apart(tmp_path, monkeypatch, capsys):
    model, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), model)
    failed = SimpleNamespace(passed=False, trials=(), reasons=("y differs",), notes=())
    monkeypatch.setattr(proving, "prove_graphs", lambda *_, **__: failed)
    failed.to_json = lambda: {"passed": False}
    assert edit(model, "gather-to-slice", output=out, prove=True) == 1
    assert not out.exists()
    assert (tmp_path / "out.refused.onnx").exists()
    assert "y differs" in capsys.readouterr().out
