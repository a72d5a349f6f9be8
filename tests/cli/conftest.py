"""A small project on disk: a module, its weights, photographs with labels."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """(batch, 3, 16, 16) to (batch, 4)."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, image):
        return self.head(torch.relu(self.norm(self.stem(image))).mean((2, 3)))


def broken():
    settings = {}
    return settings["missing"]
'''

SHIP = """
[model]
source = "net.py:Net"
weights = "net.pth"
inputs = ["image:float32[batch,3,16,16]"]

[engines]
targets = ["onnxruntime"]

[data]
path = "photos"
preprocess = "resize 16 bilinear, crop 16"
batch = 4

[bench]
seconds = 0.05
calls = 10

[limits]
max_flips = 0
"""


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of Net, made once."""
    import torch

    folder = tmp_path_factory.mktemp("weights")
    (folder / "net.py").write_text(textwrap.dedent(NET))
    space: dict = {"__name__": "net"}
    exec(NET, space)  # noqa: S102 -- the source is the constant above
    torch.manual_seed(0)
    net = space["Net"]()
    for _ in range(3):  # give the batch norm statistics of its own
        net(torch.randn(8, 3, 16, 16))
    torch.save(net.state_dict(), folder / "net.pth")
    return folder / "net.pth"


@pytest.fixture
def project(tmp_path: Path, weights: Path) -> Path:
    """A folder with net.py, net.pth, ship.toml and twelve labelled photographs."""
    folder = tmp_path / "my project"
    photos = folder / "photos"
    photos.mkdir(parents=True)
    (folder / "net.py").write_text(textwrap.dedent(NET))
    (folder / "net.pth").write_bytes(weights.read_bytes())
    (folder / "ship.toml").write_text(SHIP)
    generator = np.random.default_rng(0)
    lines = []
    for index in range(12):
        pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"photo {index}.jpg")
        lines.append(f"photo {index}.jpg {index % 4}")
    (photos / "labels.txt").write_text("\n".join(lines) + "\n")
    return folder
