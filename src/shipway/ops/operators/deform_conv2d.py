"""Deformable convolution, plain (DCN) and modulated (DCNv2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.gathering import bilinear

__all__ = [
    "DeformConv2d",
    "DeformConv2dPack",
    "ModulatedDeformConv2d",
    "ModulatedDeformConv2dPack",
    "deform_conv2d",
    "deform_conv2d_op",
    "modulated_deform_conv2d",
]

_OPSET = 19  # the first that has DeformConv


def _inputs(
    generator: np.random.Generator,
    *,
    size: tuple[int, int] = (7, 9),
    channels: int = 4,
    out: int = 6,
    kernel: tuple[int, int] = (3, 3),
    batch: int = 2,
    modulated: bool = True,
    reach: float = 2.0,
    **given: Any,
) -> tuple[tuple[Tensor | None, ...], dict[str, Any]]:
    def tensor(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    usual = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    attributes = {**usual, "deform_groups": 1, **given}
    taps = kernel[0] * kernel[1] * attributes["deform_groups"]
    spans = zip(size, kernel, *(attributes[key] for key in list(usual)[:3]), strict=True)
    places = [
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for n, k, stride, padding, dilation in spans
    ]
    tensors = (
        tensor(batch, channels, *size),
        tensor(batch, 2 * taps, *places) * reach,
        tensor(out, channels // attributes["groups"], *kernel),
        torch.sigmoid(tensor(batch, taps, *places)) if modulated else None,
        tensor(out) if modulated else None,
    )
    return tensors, {key: value for key, value in attributes.items() if value != usual.get(key)}


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def sample(name: str, gradient: bool = False, **given: Any) -> Sample:
        return Sample(name, *_inputs(generator, **given), gradient=gradient)

    yield sample("modulated")
    yield sample("other sizes", size=(12, 6), batch=1)
    yield sample("plain", modulated=False, padding=[1, 1])
    yield sample("stride and dilation", stride=[2, 1], padding=[2, 1], dilation=[2, 1])
    yield sample("groups", groups=2, deform_groups=2, padding=[1, 1])
    yield sample("more offsets than groups", deform_groups=4, padding=[1, 1])
    yield sample("one by one", kernel=(1, 1), size=(5, 4))
    yield sample("one pixel", kernel=(3, 3), size=(1, 1), padding=[1, 1])
    yield sample("far outside", reach=1e4)
    yield sample("no batch", batch=0)
    lost, attributes = _inputs(generator)
    if lost[1] is not None and lost[0] is not None:
        lost[1][0, :2, 0, 0] = torch.tensor([torch.nan, torch.inf])
        lost[0][1, 1, 3, 3] = torch.nan
    yield Sample("NaN", lost, attributes)
    yield sample("a larger plane", size=(40, 70), channels=16, out=24, padding=[1, 1], batch=1)
    small, attributes = _inputs(generator, size=(4, 3), channels=2, out=2, kernel=(2, 2), batch=1)
    if small[1] is not None:  # between pixels, where the sampling is smooth
        small[1].copy_(torch.from_numpy(generator.uniform(0.2, 0.8, small[1].shape)))
    yield Sample("for the gradient", small, attributes, gradient=True)


def _shape(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    del mask, bias, stride, padding, dilation, groups, deform_groups
    return input.new_empty((input.shape[0], weight.shape[0], offset.shape[2], offset.shape[3]))


def _standard(op: Any, inputs: list[Any], attributes: Mapping[str, Any]) -> Any:
    """DeformConv of ONNX, which is the same operator; its runtimes compute it in float32."""
    if op.opset < _OPSET:
        return None
    x, offset, weight, mask, bias = (None if one is None else op.wide(one) for one in inputs)
    top, left = attributes["padding"]
    found = op.DeformConv(
        x,
        weight,
        offset,
        bias,
        mask,
        strides=list(attributes["stride"]),
        pads=[top, left, top, left],
        dilations=list(attributes["dilation"]),
        group=attributes["groups"],
        offset_group=attributes["deform_groups"],
    )
    return op.narrow(found, inputs[0])


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
)
def deform_conv2d_op(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve with taps that are moved by an offset each, and weighted where there is a mask.

    A tap a pixel or more outside the plane, or at a place that is NaN, reads 0; the corners of a
    tap that lie outside count 0.

    Args:
        input: (batch, channels, height, width).
        offset: (batch, 2 * deform_groups * taps, out height, out width), in pixels, y before x.
        weight: (out channels, channels / groups, kernel height, kernel width).
        mask: (batch, deform_groups * taps, out height, out width).
        bias: (out channels,).
        stride: Down and across, as are padding and dilation.
        padding: Zeros on both sides.
        dilation: Distance of the taps.
        groups: Groups of the convolution.
        deform_groups: Groups of channels with offsets of their own.

    Returns:
        (batch, out channels, out height, out width).

    Source: Dai et al. 2017 and Zhu et al. 2019; layouts of mmcv.ops.modulated_deform_conv2d.
    """
    batch, channels, height, width = input.shape
    out_channels, _, kernel_h, kernel_w = weight.shape
    out_h, out_w = offset.shape[2], offset.shape[3]
    taps, places = kernel_h * kernel_w, out_h * out_w
    across, down = (torch.arange(size, device=input.device) for size in (kernel_w, kernel_h))
    rows = torch.arange(out_h, device=input.device) * stride[0] - padding[0]
    columns = torch.arange(out_w, device=input.device) * stride[1] - padding[1]
    y = (down * dilation[0])[:, None, None, None] + rows[:, None]
    x = (across * dilation[1])[:, None, None] + columns
    moves = offset.reshape(batch, deform_groups, kernel_h, kernel_w, 2, out_h, out_w)
    y, x = (
        (start + moves[:, :, :, :, axis]).reshape(batch * deform_groups, taps * places)
        for axis, start in enumerate((y, x))
    )
    each = channels // deform_groups
    planes = input.reshape(batch * deform_groups, each, height * width)
    read = bilinear(planes, y, x, height, width)
    read = read.reshape(batch, deform_groups, each, taps, places)
    if mask is not None:
        read = read * mask.reshape(batch, deform_groups, 1, taps, places)
    read = read.reshape(batch, groups, channels // groups * taps, places)
    factors = weight.reshape(groups, out_channels // groups, channels // groups * taps)
    result = torch.matmul(factors, read).reshape(batch, out_channels, out_h, out_w)
    return result if bias is None else result + bias[:, None, None]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Convolve with moved taps; see `deform_conv2d_op`.

    Argument order of mmcv.ops.deform_conv2d.

    Args:
        input: (batch, channels, height, width).
        offset: (batch, 2 * deform_groups * taps, out height, out width).
        weight: (out channels, channels / groups, kernel height, kernel width).
        stride: One number or two.
        padding: One number or two.
        dilation: One number or two.
        groups: Groups of the convolution.
        deform_groups: Groups of channels with offsets of their own.
        bias: Must be False, as in mmcv.
        im2col_step: Without effect: nothing is unrolled into memory.

    Raises:
        ValueError: `bias` is true.
    """
    del im2col_step
    if bias:
        raise ValueError("deform_conv2d takes no bias; use modulated_deform_conv2d")
    found: Tensor = deform_conv2d_op(
        input,
        offset,
        weight,
        None,
        None,
        list(_pair(stride)),
        list(_pair(padding)),
        list(_pair(dilation)),
        groups,
        deform_groups,
    )
    return found


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve with moved and weighted taps; see `deform_conv2d_op`.

    Argument order of mmcv.ops.modulated_deform_conv2d.

    Args:
        input: (batch, channels, height, width).
        offset: (batch, 2 * deform_groups * taps, out height, out width).
        mask: (batch, deform_groups * taps, out height, out width).
        weight: (out channels, channels / groups, kernel height, kernel width).
        bias: (out channels,), or None.
        stride: One number or two.
        padding: One number or two.
        dilation: One number or two.
        groups: Groups of the convolution.
        deform_groups: Groups of channels with offsets of their own.
    """
    found: Tensor = deform_conv2d_op(
        input,
        offset,
        weight,
        mask,
        bias,
        list(_pair(stride)),
        list(_pair(padding)),
        list(_pair(dilation)),
        groups,
        deform_groups,
    )
    return found


class ModulatedDeformConv2d(nn.Module):
    """A modulated deformable convolution that is given its offsets and mask.

    Parameters and arguments of mmcv.ops.ModulatedDeformConv2d: its weights load here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool | str = True,
    ) -> None:
        """Make the parameters; `bias="auto"` is True, as in mmcv."""
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.groups, self.deform_groups = groups, deform_groups
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve; see `modulated_deform_conv2d`."""
        return modulated_deform_conv2d(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deform_groups,
        )


class ModulatedDeformConv2dPack(ModulatedDeformConv2d):
    """A modulated deformable convolution that computes its offsets and mask from its input.

    Parameters and arguments of mmcv.ops.ModulatedDeformConv2dPack.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the parameters; offsets start at 0 and masks at 0.5."""
        super().__init__(*args, **kwargs)
        self.conv_offset = nn.Conv2d(
            self.in_channels,
            self.deform_groups * 3 * self.kernel_size[0] * self.kernel_size[1],
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )
        nn.init.zeros_(self.conv_offset.weight)
        if self.conv_offset.bias is not None:
            nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] # fewer arguments, as in mmcv
        """Convolve."""
        first, second, mask = torch.chunk(self.conv_offset(x), 3, dim=1)
        return super().forward(x, torch.cat((first, second), dim=1), torch.sigmoid(mask))


class DeformConv2d(nn.Module):
    """A deformable convolution that is given its offsets.

    Parameters and arguments of mmcv.ops.DeformConv2d: its weights load here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> None:
        """Make the parameters.

        Raises:
            ValueError: `bias` is true, which mmcv does not take either.
        """
        super().__init__()
        del im2col_step
        if bias:
            raise ValueError("DeformConv2d takes no bias; use ModulatedDeformConv2d")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.groups, self.deform_groups = groups, deform_groups
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve; see `deform_conv2d`."""
        return deform_conv2d(
            x,
            offset,
            self.weight,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deform_groups,
        )


class DeformConv2dPack(DeformConv2d):
    """A deformable convolution that computes its offsets from its input; they start at 0.

    Parameters and arguments of mmcv.ops.DeformConv2dPack.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the parameters."""
        super().__init__(*args, **kwargs)
        self.conv_offset = nn.Conv2d(
            self.in_channels,
            self.deform_groups * 2 * self.kernel_size[0] * self.kernel_size[1],
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )
        nn.init.zeros_(self.conv_offset.weight)
        if self.conv_offset.bias is not None:
            nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] # fewer arguments, as in mmcv
        """Convolve."""
        return super().forward(x, self.conv_offset(x))
