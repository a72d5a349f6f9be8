"""mmcv's attention layer."""

import pytest
import torch
import torch.nn.functional as F

from shipway.ops import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)

SHAPES, START = torch.tensor([[5, 4], [3, 2]]), torch.tensor([0, 20])


def _layer(**given):
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(16, 4, 2, 3, dropout=0.0, **given).double()
    torch.nn.init.normal_(layer.attention_weights.weight)
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.1)
    return layer


def _golden(layer, query, value, reference, identity, mask):
    """The layer with torch's grid_sample, level by level."""
    batch, queries, _ = query.shape
    pixels = layer.value_proj(value).masked_fill(mask[..., None], 0).reshape(batch, 26, 4, 4)
    offsets = layer.sampling_offsets(query).view(batch, queries, 4, 2, 3, 2)
    weights = layer.attention_weights(query).view(batch, queries, 4, 6).softmax(-1)
    total = torch.zeros(batch, queries, 4, 4, dtype=query.dtype)
    for level, (height, width) in enumerate(SHAPES.tolist()):
        plane = pixels[:, START[level] :][:, : height * width].permute(0, 2, 3, 1)
        plane = plane.reshape(batch * 4, 4, height, width)
        if reference.shape[-1] == 2:
            move = offsets[:, :, :, level] / torch.tensor([width, height])
        else:
            move = offsets[:, :, :, level] / 3 * reference[:, :, level, None, None, 2:] * 0.5
        places = reference[:, :, level, None, None, :2] + move
        grid = (2 * places - 1).transpose(1, 2).reshape(batch * 4, queries, 3, 2)
        read = F.grid_sample(plane, grid, align_corners=False).reshape(batch, 4, 4, queries, 3)
        share = weights[..., 3 * level : 3 * level + 3]
        total += torch.einsum("bhcqp,bqhp->bqhc", read, share)
    return layer.output_proj(total.flatten(2)) + identity


@pytest.mark.parametrize("numbers", [2, 4])
def test_the_layer_against_grid_sample(numbers):
    """Points and boxes as references, a mask, batch first and not."""
    layer = _layer(batch_first=True)
    query, value = torch.randn(2, 7, 16).double(), torch.randn(2, 26, 16).double()
    reference = torch.rand(2, 7, 2, numbers).double()
    mask = torch.rand(2, 26) < 0.2
    given = {"reference_points": reference, "spatial_shapes": SHAPES, "level_start_index": START}
    position = torch.randn(2, 7, 16).double()
    golden = _golden(layer, query + position, value, reference, query, mask)
    actual = layer(query, value=value, query_pos=position, key_padding_mask=mask, **given)
    torch.testing.assert_close(actual, golden, rtol=1e-9, atol=1e-9)
    layer.batch_first = False
    turned = (query.transpose(0, 1), position.transpose(0, 1), value.transpose(0, 1))
    actual = layer(turned[0], query_pos=turned[1], value=turned[2], key_padding_mask=mask, **given)
    torch.testing.assert_close(actual.transpose(0, 1), golden, rtol=1e-9, atol=1e-9)


def test_the_parameters_are_mmcvs():
    """A checkpoint of mmcv loads."""
    shapes = {name: tuple(value.shape) for name, value in _layer().state_dict().items()}
    assert shapes == {
        "sampling_offsets.weight": (48, 16),
        "sampling_offsets.bias": (48,),
        "attention_weights.weight": (24, 16),
        "attention_weights.bias": (24,),
        "value_proj.weight": (16, 16),
        "value_proj.bias": (16,),
        "output_proj.weight": (16, 16),
        "output_proj.bias": (16,),
    }
    bias = _layer().sampling_offsets.bias.view(4, 2, 3, 2)
    assert bias[0, 0].round(decimals=5).tolist() == [[1, 0], [2, 0], [3, 0]]


def test_what_is_missing_is_named():
    """Arguments that mmcv would trip over later."""
    with pytest.raises(ValueError, match="reference_points, spatial_shapes and level_start_index"):
        _layer()(torch.zeros(1, 1, 16).double())
    with pytest.raises(
        ValueError, match=r"embed_dims \(10\) must be a multiple of num_heads \(4\)"
    ):
        MultiScaleDeformableAttention(10, 4)


def test_the_other_names_call_the_operator():
    """The function and the fallback give the same."""
    value, places = torch.rand(1, 26, 2, 8), torch.rand(1, 5, 2, 2, 3, 2)
    weights = torch.rand(1, 5, 2, 2, 3)
    one = MultiScaleDeformableAttnFunction.apply(value, SHAPES, START, places, weights, 64)
    assert torch.equal(one, multi_scale_deformable_attn_pytorch(value, SHAPES, places, weights))
