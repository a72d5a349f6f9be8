"""Deformable convolution, version 1 and 2: the taps of each filter read where offsets tell them to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = ["deform_conv2d", "deform_conv2d_op", "modulated_deform_conv2d"]

_SINCE = 19
"""First opset with DeformConv."""


def _inputs(
    generator: np.random.Generator,
    size: tuple[int, int, int, int] = (2, 4, 7, 6),
    filters: int = 5,
    kernel: tuple[int, int] = (3, 3),
    *,
    reach: float = 1.5,
    masked: bool = True,
    biased: bool = True,
    **attributes: Any,
) -> tuple[tuple[Tensor | None, ...], dict[str, Any]]:
    """Make one set of inputs; offsets reach as many pixels away from the place of their tap."""
    batch, channels, *sides = size
    stride, padding, dilation = (
        attributes.get(name, default)
        for name, default in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1)))
    )
    out = [
        (side + 2 * padding[at] - dilation[at] * (kernel[at] - 1) - 1) // stride[at] + 1
        for at, side in enumerate(sides)
    ]
    reads = attributes.get("deform_groups", 1) * kernel[0] * kernel[1]

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    offset = torch.from_numpy(generator.uniform(-reach, reach, (batch, 2 * reads, *out)))
    mask = torch.from_numpy(generator.uniform(0, 1, (batch, reads, *out))) if masked else None
    bias = normal(filters) if biased else None
    weight = normal(filters, channels // attributes.get("groups", 1), *kernel)
    return (normal(*size), offset, weight, mask, bias), attributes


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    same: dict[str, Any] = {"padding": [1, 1]}
    yield Sample("usual", *_inputs(generator, **same))
    yield Sample("other sizes", *_inputs(generator, (3, 4, 5, 9), **same))
    yield Sample("far outside", *_inputs(generator, reach=1e6, **same))
    yield Sample("no batch", *_inputs(generator, (0, 4, 3, 3), **same))
    lost, attributes = _inputs(generator, **same)
    places = torch.tensor([torch.nan, torch.inf, -torch.inf])
    lost[1][0, :3, 0, 0] = places  # type: ignore[index] # the offset is there
    yield Sample("offsets that are none", lost, attributes)
    hole, attributes = _inputs(generator, **same)
    hole[0][0, 1, 2, 3] = torch.nan  # type: ignore[index] # so is the input
    yield Sample("NaN in the input", hole, attributes)
    first: dict[str, Any] = {"masked": False, "biased": False}
    yield Sample("version 1", *_inputs(generator, **first, **same))
    yield Sample("a large plane", *_inputs(generator, (1, 4, 65, 70), 3, **first, **same))
    yield Sample("many channels", *_inputs(generator, (1, 520, 3, 4), 20, **first, **same))
    yield Sample("one element", *_inputs(generator, (1, 1, 1, 1), 1, (1, 1), **first))
    yield Sample("bias alone", *_inputs(generator, kernel=(1, 3), masked=False))
    yield Sample("mask alone", *_inputs(generator, kernel=(2, 1), biased=False))
    uneven: dict[str, Any] = {"stride": [2, 1], "padding": [0, 2], "dilation": [1, 2]}
    yield Sample("uneven strides", *_inputs(generator, (2, 4, 9, 8), **uneven))
    grouped: dict[str, Any] = {"groups": 2, "deform_groups": 3, "padding": [1, 1]}
    yield Sample("groups across", *_inputs(generator, (1, 12, 5, 5), 34, **grouped))
    yield Sample("a group a channel", *_inputs(generator, (1, 4, 5, 5), 4, groups=4))
    yield Sample(
        "for the gradient",
        *_clear(generator, _inputs(generator, (1, 2, 4, 3), 2, (2, 2), deform_groups=2)),
        gradient=True,
    )


def _clear(
    generator: np.random.Generator, made: tuple[tuple[Tensor | None, ...], dict[str, Any]]
) -> tuple[tuple[Tensor | None, ...], dict[str, Any]]:
    """Replace offsets by ones that stay away from the middles of pixels."""
    (value, offset, *rest), attributes = made
    size = tuple(offset.shape) if offset is not None else ()
    whole, part = generator.integers(-1, 2, size), generator.uniform(0.2, 0.8, size)
    return (value, torch.from_numpy(whole + part), *rest), attributes


def _shape(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    *_: Any,
    **__: Any,
) -> Tensor:
    return input.new_empty((input.shape[0], weight.shape[0], *offset.shape[2:]))


def _standard(op: Any, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Write DeformConv, computed in float32 where the inputs are narrower."""
    if op.opset < _SINCE:
        return None
    value, offset, weight, mask, bias = (None if item is None else op.wide(item) for item in inputs)
    wide = [value, weight, offset, bias, mask]
    while wide[-1] is None:
        wide.pop()
    result = op.DeformConv(
        *wide,
        strides=list(attributes["stride"]),
        pads=[*attributes["padding"], *attributes["padding"]],
        dilations=list(attributes["dilation"]),
        group=attributes["groups"],
        offset_group=attributes["deform_groups"],
    )
    return op.narrow(result, inputs[0])


@custom_op(
    "shipway::deform_conv2d",
    schema="(Tensor input, Tensor offset, Tensor weight, Tensor? mask=None, Tensor? bias=None, "
    "int[] stride=[1, 1], int[] padding=[0, 0], int[] dilation=[1, 1], int groups=1, "
    "int deform_groups=1) -> Tensor",
    types="TTTTT->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    standard=_standard,
    pure=True,
)
def deform_conv2d_op(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Convolve a plane whose pixels are read, bilinearly, where offsets tell each tap to.

    A pixel outside the plane counts as zero, whatever is stored elsewhere, and so does a point
    whose offset is NaN or infinite. The memory this reference takes is that of im2col.

    Args:
        input: (batch, channels, height, width).
        offset: (batch, deform_groups * taps * 2, out height, out width): y and x of each tap.
        weight: (filters, channels / groups, kernel height, kernel width).
        mask: (batch, deform_groups * taps, out height, out width), a factor for each point.
        bias: (filters,).
        stride: Down and right.
        padding: Above and below, left and right.
        dilation: Down and right.
        groups: Parts the channels are convolved in.
        deform_groups: Parts of the channels that have offsets of their own.

    Returns:
        (batch, filters, out height, out width).

    Source: Dai et al. 2017 and Zhu et al. 2018 (Deformable ConvNets v1 and v2); layouts of
    mmcv.ops.deform_conv2d and torchvision.ops.deform_conv2d.
    """
    batch, channels = input.shape[:2]
    filters, _, kernel_height, kernel_width = weight.shape
    out_height, out_width = offset.shape[2:]
    taps, each = kernel_height * kernel_width, channels // deform_groups
    points = offset.reshape(batch, deform_groups, taps, 2, out_height, out_width)
    bases = [
        (
            torch.arange(out, device=input.device, dtype=input.dtype) * stride[axis] - padding[axis]
        ).reshape((-1, 1) if axis == 0 else (1, -1))
        for axis, out in enumerate((out_height, out_width))
    ]
    steps = torch.arange(taps, device=input.device).reshape(-1, 1, 1)
    y = points[:, :, :, 0] + (bases[0] + steps // kernel_width * dilation[0])
    x = points[:, :, :, 1] + (bases[1] + steps % kernel_width * dilation[1])
    columns = _sample_rows(input, y, x)
    if mask is not None:
        columns = columns * mask.reshape(*y.shape, 1)
    columns = columns.reshape(batch, deform_groups, taps, out_height * out_width, each)
    columns = columns.permute(0, 1, 4, 2, 3).reshape(
        batch, groups, channels // groups * taps, out_height * out_width
    )
    filter_rows = weight.reshape(groups, filters // groups, channels // groups * taps)
    result = torch.matmul(filter_rows, columns).reshape(batch, filters, out_height, out_width)
    return result if bias is None else result + bias.reshape(-1, 1, 1)


def _sample_rows(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Read points bilinearly, as rows of channels.

    Pixels are rows of a table, gathered by their number; its last row is the zero that stands for
    every pixel outside.

    Args:
        plane: (batch, parts * channels, height, width).
        y: (batch, parts, taps, out height, out width).
        x: The same.

    Returns:
        (batch, parts, taps, out height, out width, channels).
    """
    batch, channels, height, width = plane.shape
    parts = y.shape[1]
    rows = plane.reshape(batch, parts, channels // parts, height * width).permute(0, 1, 3, 2)
    rows = rows.reshape(batch * parts * height * width, channels // parts)
    rows = torch.cat((rows, rows.new_zeros((1, channels // parts))))
    inside = (y > -1) & (x > -1) & (y < height) & (x < width)
    y, x = (torch.where(inside, place, torch.zeros_like(place)) for place in (y, x))
    top, left = torch.floor(y), torch.floor(x)
    part = torch.arange(batch * parts, device=plane.device).reshape(batch, parts, 1, 1, 1)
    result = rows.new_zeros((*y.shape, channels // parts))
    for down in (0, 1):
        for right in (0, 1):
            row, column = top + down, left + right
            counts = inside & (row >= 0) & (column >= 0) & (row < height) & (column < width)
            share = (1 - (y - row).abs()) * (1 - (x - column).abs())
            pixel = (part * height + row.to(torch.int64)) * width + column.to(torch.int64)
            pixel = torch.where(counts, pixel, batch * parts * height * width)
            values = torch.index_select(rows, 0, pixel.reshape(-1))
            result = result + share.unsqueeze(-1) * values.reshape(result.shape)
    return result


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(one) for one in value]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,  # noqa: ARG001 -- mmcv's signature; how much memory its kernel takes
) -> Tensor:
    """Convolve with offsets, without mask and bias; see `deform_conv2d_op`.

    Argument order of mmcv.ops.deform_conv2d.

    Args:
        input: (batch, channels, height, width).
        offset: (batch, deform_groups * taps * 2, out height, out width), y before x.
        weight: (filters, channels / groups, kernel height, kernel width).
        stride: One number, or down and right; so are `padding` and `dilation`.
        padding: Above and below, left and right.
        dilation: Down and right.
        groups: Parts the channels are convolved in.
        deform_groups: Parts of the channels that have offsets of their own.
        bias: False, as in mmcv.
        im2col_step: Has no meaning here.

    Returns:
        (batch, filters, out height, out width).

    Raises:
        ValueError: `bias` is True.
    """
    if bias:
        raise ValueError("deform_conv2d has no bias; use modulated_deform_conv2d")
    sizes = (_pair(stride), _pair(padding), _pair(dilation))
    found: Tensor = deform_conv2d_op(
        input, offset, weight, None, None, *sizes, groups, deform_groups
    )
    return found


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve with offsets and a mask; see `deform_conv2d_op`.

    Argument order of mmcv.ops.modulated_deform_conv2d.

    Args:
        input: (batch, channels, height, width).
        offset: (batch, deform_groups * taps * 2, out height, out width), y before x.
        mask: (batch, deform_groups * taps, out height, out width).
        weight: (filters, channels / groups, kernel height, kernel width).
        bias: (filters,).
        stride: One number, or down and right; so are `padding` and `dilation`.
        padding: Above and below, left and right.
        dilation: Down and right.
        groups: Parts the channels are convolved in.
        deform_groups: Parts of the channels that have offsets of their own.

    Returns:
        (batch, filters, out height, out width).
    """
    sizes = (_pair(stride), _pair(padding), _pair(dilation))
    found: Tensor = deform_conv2d_op(
        input, offset, weight, mask, bias, *sizes, groups, deform_groups
    )
    return found
