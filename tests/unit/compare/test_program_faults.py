"""The PyTorch golden against a program with a fault in it, from end to end."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from shipway.compare.diagnose import diagnose
from shipway.engines.base import EngineOptions
from shipway.engines.torch import TorchEngine
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec, random_feeds
from shipway.trace.program_golden import open_program_golden

OPTIONS = EngineOptions(threads=1)
# The program calls its input "image" and its output by the last operator; the model has other names.
INPUTS = (TensorSpec("picture", "float32", (2, 3, 8, 8)),)
OUTPUTS = (TensorSpec("scores", "float32", (2, 5)),)


class Net(nn.Module):
    """A convolution with batch norm, attention over its places, a head."""

    def __init__(self, **faults):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, 5)
        with torch.no_grad():
            for value in self.parameters():
                value.add_(0.2 * torch.randn_like(value))
            self.bn.running_mean.normal_(0, 0.5)
            self.bn.running_var.uniform_(0.5, 2)
        self.faults = faults
        if "gain" in faults:
            with torch.no_grad():
                self.qkv.weight.mul_(1.02)
                self.qkv.bias.mul_(1.02)
        self.norm.eps = faults.get("eps", 1e-5)

    def forward(self, image):
        x = functional.relu(self.bn(self.conv(image)))
        x = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.transpose(1, 2)).softmax(1 if "axis" in self.faults else 2)
        x = functional.gelu(weights @ v, approximate=self.faults.get("gelu", "none"))
        return functional.linear(
            x.mean(1), self.head.weight, self.faults.get("bias", self.head.bias)
        )


def portable(folder, **faults):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Net(**faults).eval(), (torch.randn(2, 3, 8, 8),))
    folder.mkdir()
    torch.export.save(program, folder / "net.pt2")
    return PortableModel(INPUTS, OUTPUTS, program=folder / "net.pt2")


def diagnosis(folder, **faults):
    golden = open_program_golden(portable(folder / "golden"), threads=1)
    model = portable(folder / "engine", **faults)
    feeds = random_feeds(INPUTS, seed=2)
    artifact = TorchEngine().compile(model, OPTIONS, folder / "out")
    with TorchEngine().open_taps(artifact, OPTIONS) as session:
        return diagnose(golden, session, feeds)


@pytest.mark.parametrize(
    ("faults", "tensor", "cause", "said"),
    [
        ({"gain": True}, "linear", "gain", "1.02"),
        ({"eps": 0.05}, "layer_norm", "approximation", "eps 0.05"),
        ({"axis": True}, "softmax", "layout", "along axis 1 instead of 2"),
        ({"gelu": "tanh"}, "gelu", "approximation", "gelu in its tanh form"),
        ({"bias": None}, "linear_1", "offset", "linear without its bias"),
    ],
)
def test_a_fault_is_named(tmp_path, faults, tensor, cause, said):
    """The first wrong operator, and what is wrong with it."""
    found = diagnosis(tmp_path, **faults)
    (culprit,) = found.culprits
    assert culprit.tensor.golden == tensor
    assert culprit.tensor.source.startswith("test_program_faults.py:") or tensor == "layer_norm"
    assert culprit.cause.kind == cause
    assert said in culprit.cause.explanation


def test_a_clean_program_is_clean(tmp_path):
    """Not one bit differs, and every tensor was compared."""
    found = diagnosis(tmp_path)
    assert found.passed
    assert found.identical
    assert not found.unmatched
    assert all(tensor.accumulated.max_abs == 0 for tensor in found.tensors)
