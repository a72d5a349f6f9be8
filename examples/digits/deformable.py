"""The same classifier with a deformable attention layer: a custom operator that no engine knows."""

import torch
from torch import Tensor, nn

from shipway.ops import MultiScaleDeformableAttention


class DeformableDigits(nn.Module):
    """Takes (batch, 1, 8, 8) images with values in [0, 1], returns (batch, 10) logits.

    Each of the 4x4 pixels of the coarse map looks at a few points of the fine and the coarse one.
    """

    def __init__(self, width: int = 48, heads: int = 4) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.position = nn.Parameter(torch.zeros(1, 16, width))
        self.norm = nn.LayerNorm(width)
        self.attention = MultiScaleDeformableAttention(
            width, heads, num_levels=2, num_points=4, dropout=0.0, batch_first=True
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))
        middles = (torch.arange(4) + 0.5) / 4
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        places = torch.stack((x, y), -1).reshape(1, 16, 1, 2).expand(-1, -1, 2, -1)
        self.register_buffer("places", places.contiguous(), persistent=False)
        self.register_buffer("shapes", torch.tensor([[8, 8], [4, 4]]), persistent=False)
        self.register_buffer("starts", torch.tensor([0, 64]), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(image)
        coarse = self.coarse(fine)
        pixels = torch.cat((fine.flatten(2), coarse.flatten(2)), 2).transpose(1, 2)
        query = coarse.flatten(2).transpose(1, 2)
        x = self.attention(
            self.norm(query),
            value=self.norm(pixels),
            identity=query,
            query_pos=self.position,
            reference_points=self.places.expand(image.shape[0], -1, -1, -1),
            spatial_shapes=self.shapes,
            level_start_index=self.starts,
        )
        x = x + self.mlp(x)
        return self.head(x.mean(1))
