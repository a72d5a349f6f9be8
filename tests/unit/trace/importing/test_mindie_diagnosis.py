"""A dump of a model that MindIE-Torch compiled leads to the PyTorch module that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from shipway.trace.importing.mindie_names import RT_MAP, TORCH_MAP
from shipway.trace.importing.registry import import_dump


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(x)) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer_1 = nn.Sequential(Block(), Block())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer_1(self.stem(x))


LAYERS = [
    ("Conv2D_1", None, "stem"),
    ("Conv2D_2", "Conv2D_2Relu_3", "layer_1.0.conv"),
    ("Conv2D_2", "Conv2D_2Relu_3", "layer_1.0.relu"),
    ("Conv2D_5", "Conv2D_5Relu_6", "layer_1.1.conv"),
    ("Conv2D_5", "Conv2D_5Relu_6", "layer_1.1.relu"),
]


def _node(module: str) -> str:
    scope = "/".join(
        f"__module.{module.rsplit('.', n)[0]}" for n in range(module.count("."), -1, -1)
    )
    return (
        f"%{len(module)} : Float(1, 8, 6, 6) = aten::op(%x), scope: {scope} # /usr/torch/nn.py:1:0"
    )


def _module_outputs(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    outputs = {}
    names = {module: name for name, module in model.named_modules()}

    def keep(module, inputs, output):
        outputs[names[module]] = output.detach().numpy().copy()

    for module in names:
        module.register_forward_hook(keep)
    model(x)
    return outputs


@pytest.fixture
def compared(ascend, dumped, pack, tmp_path):
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(1, 3, 6, 6)
    np.save(tmp_path / "x.npy", x.numpy())
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "net.pt2")
    with torch.no_grad():
        model.layer_1[1].conv.weight.mul_(1.05)
    outputs = _module_outputs(model, x)
    for op_name, module in [
        ("Conv2D_1", "stem"),
        ("Conv2D_2Relu_3", "layer_1.0.relu"),
        ("Conv2D_5Relu_6", "layer_1.1.relu"),
    ]:
        value = outputs[module].astype(np.float16)
        ascend.add("Conv2D", op_name, dumped(pack(value, "NC1HWC0"), "NC1HWC0", value.shape))
    rt = [
        {"id": n, "rt_layer": f"L{n}", "ge_op": op, **({"fusion_op": fused} if fused else {})}
        for n, (op, fused, _) in enumerate(LAYERS)
    ]
    (tmp_path / RT_MAP).write_text(json.dumps(rt))
    nodes = [
        {"rt_layer": f"L{n}", "jit_node": _node(module)} for n, (*_, module) in enumerate(LAYERS)
    ]
    (tmp_path / TORCH_MAP).write_text(json.dumps(nodes))
    return tmp_path, import_dump(ascend.folder, tmp_path / "trace", mapping=tmp_path / RT_MAP)


def test_the_wrong_module_is_named(compared):
    folder, trace = compared
    assert [record.tap.module for record in trace.records] == [
        "stem",
        "layer_1.0.relu",
        "layer_1.1.relu",
    ]
    words = ["compare", "net.pt2", "trace", "--input", "x=x.npy", "--json"]
    done = subprocess.run([sys.executable, "-m", "shipway", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=200)  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["diagnosis"]
    assert {one["actual"]: one["golden"] for one in found["tensors"]} == {
        "Conv2D_1:output:0": "conv2d",
        "Conv2D_2Relu_3:output:0": "relu",
        "Conv2D_5Relu_6:output:0": "relu_1",
    }
    (culprit,) = found["culprits"]
    assert culprit["tensor"] == "relu_1"
    between = ["aten.add.Tensor", "aten.conv2d.default", "aten.relu.default"]
    assert [one["op"] for one in culprit["operators"]] == between
    assert {one["golden"]: one["module"] for one in found["tensors"]}["relu_1"] == "layer_1.1.relu"
