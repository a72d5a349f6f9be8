"""Custom operators: define one once, and every runtime gets it.

The operators that come with Shipway have the names, argument order and layouts of mmcv and
DrivingSDK: `from shipway.ops import nms` where it was `from mmcv.ops import nms`. Names are
imported when they are first used; importing this package loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipway.ops.defining import custom_op
    from shipway.ops.definition import Alias, CustomOp, Kernel, Sample
    from shipway.ops.deform_conv2d_modules import (
        DeformConv2d,
        DeformConv2dPack,
        ModulatedDeformConv2d,
        ModulatedDeformConv2dPack,
    )
    from shipway.ops.operators.ball_query import ball_query
    from shipway.ops.operators.bicubic_resize import bicubic_resize
    from shipway.ops.operators.deform_conv2d import deform_conv2d, modulated_deform_conv2d
    from shipway.ops.operators.grid_sample_3d import grid_sample_3d
    from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn
    from shipway.ops.registry import all_operators, find_operator

_HOMES = {
    "defining": ("custom_op",),
    "definition": ("Alias", "CustomOp", "Kernel", "Sample"),
    "deform_conv2d_modules": (
        "DeformConv2d",
        "DeformConv2dPack",
        "ModulatedDeformConv2d",
        "ModulatedDeformConv2dPack",
    ),
    "operators.ball_query": ("ball_query",),
    "operators.bicubic_resize": ("bicubic_resize",),
    "operators.deform_conv2d": ("deform_conv2d", "modulated_deform_conv2d"),
    "operators.grid_sample_3d": ("grid_sample_3d",),
    "operators.multi_scale_deformable_attn": ("multi_scale_deformable_attn",),
    "registry": ("all_operators", "find_operator"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Alias",
    "CustomOp",
    "DeformConv2d",
    "DeformConv2dPack",
    "Kernel",
    "ModulatedDeformConv2d",
    "ModulatedDeformConv2dPack",
    "Sample",
    "all_operators",
    "ball_query",
    "bicubic_resize",
    "custom_op",
    "deform_conv2d",
    "find_operator",
    "grid_sample_3d",
    "modulated_deform_conv2d",
    "multi_scale_deformable_attn",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'shipway.ops' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"shipway.ops.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
