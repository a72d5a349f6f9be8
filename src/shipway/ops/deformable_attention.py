"""mmcv's names around multi-scale deformable attention: the layer, the function and its fallback."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn

__all__ = [
    "MultiScaleDeformableAttention",
    "MultiScaleDeformableAttnFunction",
    "multi_scale_deformable_attn_pytorch",
]


def multi_scale_deformable_attn_pytorch(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum bilinear samples of several feature maps, stored one after another.

    Arguments of mmcv.ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch; computed by
    the operator, not by grid_sample.

    Args:
        value: (batch, pixels, heads, channels).
        value_spatial_shapes: (levels, 2), height and width.
        sampling_locations: (batch, queries, heads, levels, points, 2), x and y in [0, 1].
        attention_weights: (batch, queries, heads, levels, points).

    Returns:
        (batch, queries, heads * channels).
    """
    areas = value_spatial_shapes[:, 0] * value_spatial_shapes[:, 1]
    start = torch.cumsum(areas, 0) - areas
    return multi_scale_deformable_attn(
        value, value_spatial_shapes, start, sampling_locations, attention_weights
    )


class MultiScaleDeformableAttnFunction:
    """Stands where mmcv has an autograd function: `apply` calls the operator."""

    @staticmethod
    def apply(
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int | Tensor = 64,
    ) -> Tensor:
        """Call `multi_scale_deformable_attn`; `im2col_step` is without effect."""
        del im2col_step
        return multi_scale_deformable_attn(
            value,
            value_spatial_shapes,
            value_level_start_index,
            sampling_locations,
            attention_weights,
        )


class MultiScaleDeformableAttention(nn.Module):
    """The attention layer of Deformable DETR.

    Parameters, arguments and layouts of mmcv.ops.MultiScaleDeformableAttention: its weights load
    here.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- mmcv's arguments in mmcv's order
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        im2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
        norm_cfg: Any = None,
        init_cfg: Any = None,
        value_proj_ratio: float = 1.0,
    ) -> None:
        """Make the parameters, initialised as in mmcv.

        Raises:
            ValueError: `embed_dims` does not divide into `num_heads`.
        """
        super().__init__()
        del im2col_step, norm_cfg, init_cfg
        if embed_dims % num_heads:
            raise ValueError(
                f"embed_dims ({embed_dims}) must be a multiple of num_heads ({num_heads})"
            )
        self.embed_dims, self.num_heads = embed_dims, num_heads
        self.num_levels, self.num_points = num_levels, num_points
        self.batch_first = batch_first
        self.dropout = nn.Dropout(dropout)
        samples, width = num_heads * num_levels * num_points, int(embed_dims * value_proj_ratio)
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, width)
        self.output_proj = nn.Linear(width, embed_dims)
        self.init_weights()

    def init_weights(self) -> None:
        """Let each head look in a direction of its own, each point a step further."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        ways = torch.stack((angles.cos(), angles.sin()), -1)
        ways = ways / ways.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)[:, None]
        offsets = (ways[:, None, None] * steps).expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(  # noqa: PLR0913, PLR0917 -- mmcv's arguments in mmcv's order
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend to the pixels around the reference points.

        Args:
            query: (queries, batch, embed_dims); batch first if the layer is.
            key: Without effect, as in mmcv.
            value: (pixels, batch, embed_dims); the query if absent.
            identity: Added to the result; the query if absent.
            query_pos: Added to the query.
            key_padding_mask: (batch, pixels), true where there is no pixel.
            reference_points: (batch, queries, levels, 2 or 4), in [0, 1].
            spatial_shapes: (levels, 2), height and width.
            level_start_index: (levels,).
            kwargs: Without effect, as in mmcv.

        Raises:
            ValueError: Reference points, shapes or start are absent, or reference points have
                neither 2 nor 4 numbers.
        """
        del key, kwargs
        if reference_points is None or spatial_shapes is None or level_start_index is None:
            raise ValueError("reference_points, spatial_shapes and level_start_index must be given")
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        batch, queries, _ = query.shape
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        value = value.reshape(batch, value.shape[1], self.num_heads, -1)
        grid = (batch, queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*grid, 2)
        weights = self.attention_weights(query).view(*grid[:3], -1).softmax(-1).view(grid)
        places = _places(reference_points, offsets, spatial_shapes, self.num_points)
        output = multi_scale_deformable_attn(
            value, spatial_shapes, level_start_index, places, weights
        )
        output = self.output_proj(output)
        if not self.batch_first:
            output = output.transpose(0, 1)
        result: Tensor = self.dropout(output) + identity
        return result


def _places(reference: Tensor, offsets: Tensor, shapes: Tensor, points: int) -> Tensor:
    """Return the sampling locations: offsets in pixels of a level, or in shares of a box."""
    if reference.shape[-1] == 2:
        sizes = torch.stack((shapes[:, 1], shapes[:, 0]), -1)
        return reference[:, :, None, :, None] + offsets / sizes[:, None]
    if reference.shape[-1] == 4:
        boxes = reference[:, :, None, :, None, 2:]
        return reference[:, :, None, :, None, :2] + offsets / points * boxes * 0.5
    raise ValueError(f"reference_points must have 2 or 4 numbers each, not {reference.shape[-1]}")
