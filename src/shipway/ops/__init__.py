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
    from shipway.ops.definition import (
        Alias,
        CustomOp,
        Kernel,
        Sample,
    )
    from shipway.ops.deform_conv2d_modules import (
        DeformConv2d,
        DeformConv2dPack,
        ModulatedDeformConv2d,
        ModulatedDeformConv2dPack,
    )
    from shipway.ops.deformable_attention import (
        MultiScaleDeformableAttention,
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )
    from shipway.ops.operators.ball_query import ball_query
    from shipway.ops.operators.bev_pool_v2 import bev_pool_v2
    from shipway.ops.operators.bicubic_resize import bicubic_resize
    from shipway.ops.operators.box_iou_rotated import box_iou_rotated
    from shipway.ops.operators.deform_conv2d import deform_conv2d, modulated_deform_conv2d
    from shipway.ops.operators.dynamic_scatter import DynamicScatter, dynamic_scatter
    from shipway.ops.operators.furthest_point_sample import furthest_point_sample
    from shipway.ops.operators.grid_sample_3d import grid_sample_3d
    from shipway.ops.operators.multi_scale_deformable_attn import multi_scale_deformable_attn
    from shipway.ops.operators.nms import (
        batched_nms,
        nms,
        nms_rotated,
    )
    from shipway.ops.operators.roi_align import RoIAlign, roi_align
    from shipway.ops.operators.roi_align_rotated import RoIAlignRotated, roi_align_rotated
    from shipway.ops.operators.scatter import (
        scatter_add,
        scatter_max,
        scatter_mean,
    )
    from shipway.ops.operators.voxelize import (
        Voxelization,
        dynamic_voxelize,
        hard_voxelize,
        voxelization,
    )
    from shipway.ops.registry import all_operators, find_operator

_HOMES = {
    "defining": ("custom_op",),
    "definition": (
        "Alias",
        "CustomOp",
        "Kernel",
        "Sample",
    ),
    "deform_conv2d_modules": (
        "DeformConv2d",
        "DeformConv2dPack",
        "ModulatedDeformConv2d",
        "ModulatedDeformConv2dPack",
    ),
    "deformable_attention": (
        "MultiScaleDeformableAttention",
        "MultiScaleDeformableAttnFunction",
        "multi_scale_deformable_attn_pytorch",
    ),
    "operators.ball_query": ("ball_query",),
    "operators.bev_pool_v2": ("bev_pool_v2",),
    "operators.bicubic_resize": ("bicubic_resize",),
    "operators.box_iou_rotated": ("box_iou_rotated",),
    "operators.deform_conv2d": (
        "deform_conv2d",
        "modulated_deform_conv2d",
    ),
    "operators.dynamic_scatter": (
        "DynamicScatter",
        "dynamic_scatter",
    ),
    "operators.furthest_point_sample": ("furthest_point_sample",),
    "operators.grid_sample_3d": ("grid_sample_3d",),
    "operators.multi_scale_deformable_attn": ("multi_scale_deformable_attn",),
    "operators.nms": (
        "batched_nms",
        "nms",
        "nms_rotated",
    ),
    "operators.roi_align": (
        "RoIAlign",
        "roi_align",
    ),
    "operators.roi_align_rotated": (
        "RoIAlignRotated",
        "roi_align_rotated",
    ),
    "operators.scatter": (
        "scatter_add",
        "scatter_max",
        "scatter_mean",
    ),
    "operators.voxelize": (
        "Voxelization",
        "dynamic_voxelize",
        "hard_voxelize",
        "voxelization",
    ),
    "registry": (
        "all_operators",
        "find_operator",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Alias",
    "CustomOp",
    "DeformConv2d",
    "DeformConv2dPack",
    "DynamicScatter",
    "Kernel",
    "ModulatedDeformConv2d",
    "ModulatedDeformConv2dPack",
    "MultiScaleDeformableAttention",
    "MultiScaleDeformableAttnFunction",
    "RoIAlign",
    "RoIAlignRotated",
    "Sample",
    "Voxelization",
    "all_operators",
    "ball_query",
    "batched_nms",
    "bev_pool_v2",
    "bicubic_resize",
    "box_iou_rotated",
    "custom_op",
    "deform_conv2d",
    "dynamic_scatter",
    "dynamic_voxelize",
    "find_operator",
    "furthest_point_sample",
    "grid_sample_3d",
    "hard_voxelize",
    "modulated_deform_conv2d",
    "multi_scale_deformable_attn",
    "multi_scale_deformable_attn_pytorch",
    "nms",
    "nms_rotated",
    "roi_align",
    "roi_align_rotated",
    "scatter_add",
    "scatter_max",
    "scatter_mean",
    "voxelization",
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
