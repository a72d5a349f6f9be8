"""Audits of what torch.onnx writes by itself."""

import warnings

import pytest
import torch
from auditing import audit
from torch import nn


class Recurs(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 20, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class ChoosesByItsBatch(nn.Module):
    def forward(self, x):
        if x.shape[0] == 1:
            return x.reshape(1, -1)
        return x.reshape(x.shape[0], -1)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.ones(1, 5, 8))

    def forward(self, x):
        query = self.query.expand(x.shape[0], -1, -1)
        return torch.softmax(query @ x.transpose(1, 2), -1) @ x


@pytest.mark.parametrize(
    ("module", "batch", "expected", "line"),
    [
        (Recurs, 2, ("error", "false-shape"), "return self.rnn(x)[0]"),
        (Attends, 1, ("error", "false-shape"), "torch.softmax("),
        (ChoosesByItsBatch, 1, ("warning", "merged-dim"), "return x.reshape(1, -1)"),
    ],
)
def test_what_torch_onnx_specialises_without_a_word_is_found(
    tmp_path, module, batch, expected, line
):
    """Each has two dynamic sizes; torch.onnx bakes one of the example's into the file, or its branch."""
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module().eval(),
            (torch.randn(batch, 24, 8),),
            dynamo=True,
            dynamic_shapes={"x": {0: dynamic, 1: dynamic}},
            verbose=False,
        )
    program.save(tmp_path / "m.onnx")
    result = audit(tmp_path / "m.onnx")
    output = result.outputs[0]
    finding = next(one for one in result.findings if one.value == output)
    assert (finding.severity, finding.kind) == expected
    assert line in finding.place.source
    assert "test_audit_torch.py:" in finding.place.source
