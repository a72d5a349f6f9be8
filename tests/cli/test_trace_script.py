"""`shipway trace --exec`, as a user runs it."""

import json
import sys

import pytest

SCRIPT = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
print("answer", net(torch.ones(4, 2)).shape)
"""


@pytest.mark.slow
def test_a_script_is_recorded_and_its_words_are_kept_apart(shipway, tmp_path):
    """The table, or the JSON, on stdout; what the script prints on stderr; the trace on disk."""
    (tmp_path / "infer.py").write_text(SCRIPT)
    command = f"{sys.executable} {tmp_path / 'infer.py'}"
    result = shipway("trace", "--exec", command, "--output", tmp_path / "trace", "--json")
    assert result.returncode == 0, result.stderr
    assert "answer torch.Size([4, 3])" in result.stderr
    names = [tensor["name"] for tensor in json.loads(result.stdout)["tensors"]]
    assert names == ["input.input", "0", "1", "Sequential"]
    data = json.loads((tmp_path / "trace" / "trace.json").read_text())
    assert data["effective"]["exit_code"] == "0"


def test_a_command_that_cannot_be_started_is_a_mistake_of_use(shipway, tmp_path):
    """With the command that works; no traceback, and no folder left behind."""
    result = shipway("trace", "--exec", "infer.py", "--output", tmp_path / "trace")
    assert result.returncode == 2
    assert "Cannot start infer.py" in result.stderr
    assert 'Give a whole command: --exec "python infer.py"' in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "trace").exists()
