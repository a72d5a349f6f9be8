"""The modules of deformable convolution, with the names, arguments and weights of mmcv.ops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shipway.ops.operators.deform_conv2d import deform_conv2d, modulated_deform_conv2d

__all__ = ["DeformConv2d", "DeformConv2dPack", "ModulatedDeformConv2d", "ModulatedDeformConv2dPack"]

_Size = int | Sequence[int]


def _pair(value: _Size) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


class _DeformConv(nn.Module):
    """What the modules have in common: their settings and the weight."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size,
        padding: _Size,
        dilation: _Size,
        groups: int,
        deform_groups: int,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{in_channels} channels in and {out_channels} out do not divide into {groups} groups"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups, self.deform_groups = groups, deform_groups
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )

    def _offset_conv(self, values_each: int) -> nn.Conv2d:
        """Return the convolution that gives each tap its values; all are zero at first."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        conv = nn.Conv2d(
            self.in_channels,
            self.deform_groups * values_each * taps,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        nn.init.zeros_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        return conv


class DeformConv2d(_DeformConv):
    """Deformable convolution; the offsets are an input. As mmcv.ops.DeformConv2d.

    Args:
        in_channels: Channels of the input.
        out_channels: Filters.
        kernel_size: One number, or height and width; so are `stride`, `padding` and `dilation`.
        stride: Down and right.
        padding: Above and below, left and right.
        dilation: Down and right.
        groups: Parts the channels are convolved in.
        deform_groups: Parts of the channels that have offsets of their own.
        bias: False, as in mmcv.
        im2col_step: Has no meaning here.

    Raises:
        ValueError: `bias` is True, or the channels do not divide into groups.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- mmcv's signature
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> None:
        """Set up the weight."""
        if bias:
            raise ValueError("DeformConv2d has no bias; use ModulatedDeformConv2d")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups
        )
        self.im2col_step = im2col_step
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve; see `shipway.ops.deform_conv2d` for the layout of the offsets."""
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
    """Deformable convolution that finds its offsets itself. As mmcv.ops.DeformConv2dPack."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set up the weight, and the convolution for the offsets; arguments of `DeformConv2d`."""
        super().__init__(*args, **kwargs)
        self.conv_offset = self._offset_conv(2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] # as in mmcv
        """Convolve."""
        return super().forward(x, self.conv_offset(x))


class ModulatedDeformConv2d(_DeformConv):
    """Deformable convolution with a mask; offsets and mask are inputs. As mmcv's.

    Args:
        in_channels: Channels of the input.
        out_channels: Filters.
        kernel_size: One number, or height and width; so are `stride`, `padding` and `dilation`.
        stride: Down and right.
        padding: Above and below, left and right.
        dilation: Down and right.
        groups: Parts the channels are convolved in.
        deform_groups: Parts of the channels that have offsets of their own.
        bias: Whether a number is added to each filter.

    Raises:
        ValueError: The channels do not divide into groups.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- mmcv's signature
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = True,
    ) -> None:
        """Set up weight and bias."""
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights; the bias is zero at first."""
        reach = 1.0 / math.sqrt(self.in_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -reach, reach)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve; see `shipway.ops.modulated_deform_conv2d` for the layouts."""
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
    """Deformable convolution that finds offsets and mask itself. As mmcv's, "DCNv2"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set up the weights, and the convolution for offsets and mask; arguments as above."""
        super().__init__(*args, **kwargs)
        self.conv_offset = self._offset_conv(3)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] # as in mmcv
        """Convolve; the last third of what `conv_offset` gives becomes the mask."""
        first, second, mask = torch.chunk(self.conv_offset(x), 3, dim=1)
        return super().forward(x, torch.cat((first, second), dim=1), torch.sigmoid(mask))
