"""A small Deformable-DETR: the detector whose attention exporters turn into hundreds of nodes."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["DeformableDetr"]

CLASSES, QUERIES, HEADS, LEVELS, POINTS = 91, 100, 8, 3, 4


def sample_levels(value, sizes, places, weights):
    """Multi-scale deformable attention through grid_sample, as PyTorch fallbacks write it."""
    batch, _, heads, channels = value.shape
    queries = places.shape[1]
    planes = value.split([height * width for height, width in sizes], dim=1)
    grids = 2 * places - 1
    sampled = []
    for level, (height, width) in enumerate(sizes):
        plane = planes[level].flatten(2).transpose(1, 2)
        plane = plane.reshape(batch * heads, channels, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(plane, grid, align_corners=False))
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, LEVELS * POINTS)
    summed = (torch.stack(sampled, dim=-2).flatten(-2) * weights).sum(-1)
    return summed.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


class DeformableLayer(nn.Module):
    """Deformable attention and a feed-forward network, each with its residual and norm."""

    def __init__(self, width):
        super().__init__()
        self.offsets = nn.Linear(width, HEADS * LEVELS * POINTS * 2)
        self.weights = nn.Linear(width, HEADS * LEVELS * POINTS)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, query, position, reference, source, sizes):
        batch, queries, width = query.shape
        value = self.value(source).view(batch, source.shape[1], HEADS, width // HEADS)
        placed = query + position
        offsets = self.offsets(placed).view(batch, queries, HEADS, LEVELS, POINTS, 2)
        weights = self.weights(placed).view(batch, queries, HEADS, LEVELS * POINTS).softmax(-1)
        weights = weights.view(batch, queries, HEADS, LEVELS, POINTS)
        scale = torch.tensor([[columns, rows] for rows, columns in sizes], dtype=query.dtype)
        places = reference[:, :, None, :, None, :] + offsets / scale[None, None, None, :, None, :]
        attended = self.output(sample_levels(value, sizes, places, weights))
        query = self.norms[0](query + attended)
        return self.norms[1](query + self.contract(F.relu(self.expand(query))))


def stage(channels, strides):
    """Return convolutions with batch norms and ReLUs, one for each stride."""
    layers = []
    for (given, made), stride in zip(channels, strides, strict=True):
        layers += [nn.Conv2d(given, made, 3, stride, 1), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers)


class DeformableDetr(nn.Module):
    """Three feature levels, two encoder and two decoder layers, a class and a box per query."""

    def __init__(self, width=128, layers=2):
        super().__init__()
        self.stages = nn.ModuleList(
            [stage([(3, 32), (32, 64)], [4, 2]), stage([(64, 64)], [2]), stage([(64, 64)], [2])]
        )
        self.projections = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(64, width, 1), nn.GroupNorm(32, width)) for _ in range(LEVELS)]
        )
        self.level = nn.Parameter(torch.randn(LEVELS, width))
        self.encoder = nn.ModuleList([DeformableLayer(width) for _ in range(layers)])
        self.queries = nn.Embedding(QUERIES, 2 * width)
        self.reference = nn.Linear(width, 2)
        self.attention = nn.ModuleList(
            [nn.MultiheadAttention(width, HEADS, batch_first=True) for _ in range(layers)]
        )
        self.decoder = nn.ModuleList([DeformableLayer(width) for _ in range(layers)])
        self.classes = nn.Linear(width, CLASSES)
        self.boxes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))

    def features(self, image):
        """Return the projected feature maps, finest first."""
        maps = []
        for layers, project in zip(self.stages, self.projections, strict=True):
            image = layers(image)
            maps.append(project(image))
        return maps

    def encode(self, maps):
        """Return the encoded pixels of all levels, and the size of each level."""
        batch = maps[0].shape[0]
        sizes = [(int(one.shape[2]), int(one.shape[3])) for one in maps]
        source = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1)
        position = torch.cat(
            [
                self.level[at].view(1, 1, -1).expand(batch, height * width, -1)
                for at, (height, width) in enumerate(sizes)
            ],
            1,
        )
        reference = pixel_centres(sizes)[None, :, None].expand(batch, -1, LEVELS, -1)
        for layer in self.encoder:
            source = layer(source, position, reference, source, sizes)
        return source, sizes

    def forward(self, image):
        source, sizes = self.encode(self.features(image))
        table = self.queries.weight.unsqueeze(0).expand(image.shape[0], -1, -1)
        position, query = table.chunk(2, -1)
        centre = self.reference(position).sigmoid()
        reference = centre[:, :, None].expand(-1, -1, LEVELS, -1)
        for attend, layer in zip(self.attention, self.decoder, strict=True):
            placed = query + position
            query = query + attend(placed, placed, query, need_weights=False)[0]
            query = layer(query, position, reference, source, sizes)
        box = self.boxes(query)
        moved = box[..., :2] + torch.special.logit(reference[:, :, 0].clamp(1e-5, 1 - 1e-5))
        return self.classes(query), torch.cat([moved, box[..., 2:]], -1).sigmoid()


def pixel_centres(sizes):
    """Return the relative (x, y) of every pixel of every level."""
    centres = []
    for height, width in sizes:
        rows = torch.linspace(0.5, height - 0.5, height) / height
        columns = torch.linspace(0.5, width - 0.5, width) / width
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack([x.reshape(-1), y.reshape(-1)], -1))
    return torch.cat(centres, 0)
