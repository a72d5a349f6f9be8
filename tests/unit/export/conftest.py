"""Small networks that export in a second or two, and what the tests of the export share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shipway.source.loading import LoadedSource
from shipway.tensors import parse_spec


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, d = x.shape
        split = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class Digits(nn.Module):
    """Convolutions with batch norm, then attention: the net of the demo, smaller."""

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(width)
        self.attn = Attention(width, 2)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, 10)

    def forward(self, image):
        x = self.stem(image).flatten(2).transpose(1, 2)
        x = x + self.attn(self.norm(x))
        return self.head(self.drop(x).mean(1))


class Mobile(nn.Module):
    """Depthwise convolutions, relu6 and residuals, for images of any size."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = functional.relu6(self.bn(self.stem(x)))
        x = x + self.point(functional.relu6(self.bn2(self.depth(x))))
        return self.head(functional.max_pool2d(x, 2).mean((2, 3)))


class Reader(nn.Module):
    """Embedding, bidirectional LSTM, multi-head attention."""

    def __init__(self, width=8):
        super().__init__()
        self.emb = nn.Embedding(50, width)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.proj = nn.Linear(2 * width, width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, ids):
        x, _ = self.lstm(self.emb(ids))
        x = self.proj(x)
        a, weights = self.attn(x, x, x)
        return self.head((x + a).mean(1)), weights


class Several(nn.Module):
    """Several inputs and outputs, nested, some of them no tensors."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 4)
        self.register_buffer("offset", torch.arange(4.0))
        self.register_buffer("scale", torch.full((4,), 2.0), persistent=False)

    def forward(self, x, y, mask=None, *, bias):
        z = self.lin(x) * self.scale + self.offset
        values, indices = (z + bias).topk(2, dim=-1)
        return {
            "z": z,
            "same": z,
            "y": y,
            "count": 3,
            "mask": mask,
            "top": [values, indices],
            "offset": self.offset,
        }


class Branchy(nn.Module):
    """Chosen to make a decomposition, a fold or a tuple of everything that has one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.gn = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.bn2 = nn.BatchNorm2d(8)
        self.prelu = nn.PReLU()

    def forward(self, x):
        a, b = functional.hardswish(self.bn(self.conv(x))).chunk(2, 1)
        values, indices = a.topk(2, dim=-1)
        largest, _ = b.max(dim=2)
        x = self.gn(torch.cat([a, b], 1)).contiguous()
        y = functional.pad(self.prelu(self.bn2(self.up(x))), (1, 1, 1, 1))
        y.add_(1.0)
        std, mean = torch.std_mean(y, dim=1)
        _, middle, last = torch.split(y, [1, 3, 4], 1)
        mixed = torch.einsum("bchw,bdhw->bcd", middle, last)
        ordered, _ = mixed.sort(-1)
        t = y.flatten(2).transpose(1, 2)
        u = t.unbind(-1)[3]
        g = torch.where(t > 0, functional.gelu(t, approximate="tanh"), torch.zeros_like(t))
        return values, indices, largest, std, mean, ordered.cumsum(-1), u, g.argmax(-1)


class Choice(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda a: a.sin() + 1, lambda a: a.cos() - 1, (x,)).relu()


@pytest.fixture(scope="session")
def nets():
    """The networks of this file by name."""
    return SimpleNamespace(
        Branchy=Branchy,
        Choice=Choice,
        Digits=Digits,
        Mobile=Mobile,
        Reader=Reader,
        Several=Several,
    )


@pytest.fixture(scope="session")
def build():
    """Make a network with weights that leave no two tensors alike: fresh ones are full of 0 and 1."""

    def make(network, *args):
        torch.manual_seed(0)
        module = network(*args)
        with torch.no_grad():
            for value in module.parameters():
                value.add_(0.1 * torch.randn_like(value))
            for name, value in module.named_buffers():
                if name.endswith("running_mean"):
                    value.normal_(0, 0.2)
                if name.endswith("running_var"):
                    value.uniform_(0.5, 1.5)
        return module.eval()

    return make


@pytest.fixture(scope="session")
def as_source():
    """Wrap a module, a program or a path as the source that `load_source` would return."""

    def wrap(model, *specs):
        inputs = tuple(parse_spec(spec) for spec in specs)
        if isinstance(model, nn.Module):
            return LoadedSource("module", "nets.py:Net", inputs, (), module=model.eval())
        if isinstance(model, Path):
            return LoadedSource("onnx", str(model), inputs, (model,), onnx=model)
        return LoadedSource("exported-program", "net.pt2", inputs, (), program=model)

    return wrap


@pytest.fixture(scope="session")
def run_onnx():
    """Run an .onnx file or model without optimisation; `extra` names inner values wanted as well."""

    def run(model, feeds, extra=()):
        import onnx
        import onnxruntime

        proto = onnx.load(model) if isinstance(model, Path) else model
        known = {item.name for item in proto.graph.output}
        proto.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in extra if name not in known
        )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [item.name for item in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


@pytest.fixture(scope="session")
def relative_l2():
    """Relative L2 distance of two arrays; inf where shape or dtype differ."""

    def distance(actual, golden):
        if actual.shape != golden.shape or actual.dtype != golden.dtype:
            return float("inf")
        golden, actual = golden.astype(np.float64), actual.astype(np.float64)
        scale = float(np.linalg.norm(golden))
        return float(np.linalg.norm(actual - golden)) / (scale or 1.0)

    return distance
