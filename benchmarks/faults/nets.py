"""The PyTorch networks of the fault study: small, of different kinds, with seeded weights.

Fresh networks begin with biases of 0, scales of 1 and equal statistics, and hide faults that trained
ones show: every parameter of one dimension is perturbed, and so are the statistics of batch norm.
Each factory takes no argument; `localise.py` names them as `nets.py:FACTORY`.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from shipway.ops import MultiScaleDeformableAttention

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
SIDE = 64


def settled(module, seed=1):
    """Return the module in evaluation mode, with vectors and statistics as training leaves them."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like, scale):
        return scale * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(noise(parameter, 0.2 if name.endswith("weight") else 0.1))
        for one in module.modules():
            if isinstance(one, nn.BatchNorm2d):
                one.running_mean.add_(noise(one.running_mean, 0.1))
                one.running_var.mul_(torch.exp(noise(one.running_var, 0.3)))
    return module.eval()


class Residual(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.down = None
        if stride > 1 or width != out:
            self.down = nn.Sequential(
                nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


def resnet():
    """Ten layers, basic blocks, as ResNet-18 is made."""
    plan = [(16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1)]
    return settled(
        nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *(Residual(*step) for step in plan),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 100),
        )
    )


class Attention(nn.Module):
    """Self-attention over tokens, written out as in timm and BERT: one projection for q, k and v."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, width=128, depth=4, heads=4, patch=8):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.position = nn.Parameter(torch.randn(1, (SIDE // patch) ** 2 + 1, width) * 0.2)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 100)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(image.shape[0], -1, -1), x), 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit():
    """A ViT of four layers."""
    return settled(VisionTransformer())


class Tagger(nn.Module):
    """Tokens to tags: two LSTM layers in both directions, then attention over the sentence."""

    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Embedding(1000, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True)
        self.project = nn.Linear(2 * width, width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, width)
        self.head = nn.Linear(width, 20)

    def forward(self, ids):
        x = self.project(self.lstm(self.embed(ids))[0])
        found, _ = self.attention(x, x, x, need_weights=False)
        x = self.norm(x + found)
        return self.head(x * torch.sigmoid(self.gate(x))).log_softmax(-1)


def lstm():
    """A bidirectional LSTM tagger with attention and a gate, whose weights are as large as trained ones.

    PyTorch's own leave its attention all but even: scores of 1e-3 hide what is wrong with them.
    """
    module = settled(Tagger())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith(("lstm.weight", "project.weight", "attention.in_proj_weight")):
                parameter.mul_(3)
    return module


class DeformableLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = MultiScaleDeformableAttention(
            width, heads, num_levels=2, num_points=4, dropout=0.0, batch_first=True
        )
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x, position, places, shapes, starts):
        x = self.norm1(
            self.attention(
                x,
                value=x,
                query_pos=position,
                reference_points=places.expand(x.shape[0], -1, -1, -1),
                spatial_shapes=shapes,
                level_start_index=starts,
            )
        )
        return self.norm2(x + self.mlp(x))


class DeformableEncoder(nn.Module):
    """Deformable-DETR's encoder in small: two levels of a pyramid, each pixel asks for others."""

    def __init__(self, width=64, heads=4):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 4, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        sides = (SIDE // 4, SIDE // 8)
        pixels = sum(side**2 for side in sides)
        self.position = nn.Parameter(0.3 * torch.randn(1, pixels, width))
        self.layers = nn.ModuleList(DeformableLayer(width, heads) for _ in range(2))
        self.head = nn.Linear(width, 12)
        places = torch.cat([grid_points(side) for side in sides])
        self.register_buffer("places", places[None, :, None].repeat(1, 1, 2, 1), persistent=False)
        shapes = torch.tensor([[side, side] for side in sides])
        self.register_buffer("shapes", shapes, persistent=False)
        self.register_buffer("starts", torch.tensor([0, sides[0] ** 2]), persistent=False)

    def forward(self, image):
        fine = self.stem(image)
        coarse = self.coarse(fine)
        x = torch.cat((fine.flatten(2), coarse.flatten(2)), 2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, self.position, self.places, self.shapes, self.starts)
        return self.head(x).sigmoid()


def grid_points(side):
    middles = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2)


def deformable():
    """Two layers of deformable attention; offsets and weights depend on the query, as trained."""
    return asking(settled(DeformableEncoder()))


def asking(module):
    """Return the module with offsets and weights of its attention that depend on the query."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def digits():
    """The digits classifier of the examples, which has one layer of deformable attention."""
    path = Path(__file__).resolve().parents[2] / "examples" / "digits" / "deformable.py"
    module = asking(settled(from_file(path).DeformableDigits()))
    with torch.no_grad():
        module.position.copy_(0.3 * torch.randn(module.position.shape))
    return module


def from_file(path):
    """Return the module that a Python file defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


class ConvNextBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, 1, 3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.project = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.first = nn.Sequential(ConvNextBlock(width), ConvNextBlock(width))
        self.down = nn.Conv2d(width, 2 * width, 2, 2)
        self.second = nn.Sequential(ConvNextBlock(2 * width), ConvNextBlock(2 * width))
        self.norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, 100)

    def forward(self, image):
        x = self.second(self.down(self.first(self.stem(image))))
        return self.head(self.norm(x.mean((-2, -1))))


def convnext():
    """Four blocks of ConvNeXt: depthwise convolutions, LayerNorm over channels put last."""
    return settled(ConvNext())


def mobilenet():
    """MobileNet v1 (0.25) with its trained weights, from the assets."""
    module = from_file(ASSETS / "torch" / "imagenet_nets.py").MobileNetV1()
    weights = torch.load(ASSETS / "torch" / "mobilenet_v1_025.pth", weights_only=True)
    module.load_state_dict(weights)
    return module.eval()
