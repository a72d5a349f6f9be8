"""Resize planes by factors that are an input of the model, bicubic or bilinear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = ["bicubic_resize", "bicubic_resize_op"]

_SHARPNESS = -0.75
_AXES = (2, 3)
_STEPS = 4096
"""Parts of one that a factor is taken apart into, so that float32 multiplies it without rounding."""


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def case(
        name: str, size: tuple[int, ...], scales: tuple[float, float], **attributes: Any
    ) -> Sample:
        plane = torch.from_numpy(generator.standard_normal(size))
        return Sample(name, (plane, torch.tensor(scales)), attributes)

    yield case("larger", (2, 3, 7, 9), (2.37, 1.61))
    yield case("smaller", (1, 2, 11, 8), (0.45, 0.61))
    yield case("as it is", (1, 1, 4, 6), (1.0, 1.0))
    yield case("a size that rounds down", (1, 2, 10, 20), (0.7, 1.3))
    yield case("to one pixel", (1, 2, 3, 4), (0.4, 0.3))
    yield case("one element", (1, 1, 1, 1), (3.5, 2.0))
    yield case("no batch", (0, 2, 3, 4), (2.0, 1.5))
    yield case("a large plane", (1, 1, 90, 70), (1.9, 0.8))
    hole = case("NaN in the input", (1, 1, 6, 7), (1.7, 2.2))
    hole.inputs[0][0, 0, 2, 3] = torch.nan
    yield hole
    for align_corners, bilinear in ((True, False), (False, True), (True, True)):
        settings = {"align_corners": align_corners, "bilinear": bilinear}
        name = f"align_corners={align_corners}, bilinear={bilinear}"
        yield case(name, (2, 2, 5, 8), (1.9, 1.27), **settings)
        yield case(f"{name}, smaller", (1, 2, 9, 10), (0.52, 0.7), **settings)
        yield case(f"{name}, to one pixel", (1, 1, 2, 3), (0.5, 0.4), **settings)
    plane = torch.from_numpy(generator.standard_normal((1, 1, 3, 4)))
    yield Sample("for the gradient", (plane, torch.tensor((1.4, 0.8))), gradient=True)


def _shape(input: Tensor, scales: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: ARG001 -- the schema's
    context = torch.library.get_ctx()
    height, width = context.new_dynamic_size(), context.new_dynamic_size()
    return input.new_empty((*input.shape[:2], height, width))


def _standard(op: Any, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Write Resize, in float32 where the input is narrower.

    Engines multiply size and factor in float32, or round up a little, and so make an output of one
    pixel more than torch does now and then. Without align_corners the pixels before it are the
    same, so it is cut off; with align_corners the right sizes are given instead of the factors.
    """
    import onnx_ir as ir

    plane, scales = inputs
    if plane.dtype == ir.DataType.DOUBLE:  # ONNX Runtime has no kernel
        return None
    wide = op.wide(plane)
    shape = op.Shape(plane)
    sizes = _floor_product(op, op.Slice(shape, [2], [4]), scales)
    mode: dict[str, Any] = {
        "mode": "linear" if attributes["bilinear"] else "cubic",
        "cubic_coeff_a": _SHARPNESS,
    }
    if attributes["align_corners"]:
        everything = op.Concat(op.Slice(shape, [0], [2]), sizes, axis=0)
        mode["coordinate_transformation_mode"] = "align_corners"
        result = op.Resize(wide, None, None, everything, **mode)
    else:
        factors = op.Concat(np.ones(2, np.float32), scales, axis=0)
        mode["coordinate_transformation_mode"] = "half_pixel"
        result = op.Slice(op.Resize(wide, None, factors, **mode), [0, 0], sizes, list(_AXES))
    return op.narrow(result, plane)


def _floor_product(op: Any, sizes: Any, scales: Any) -> Any:
    """Write floor(size * factor), exact without float64, which OpenVINO computes as float32.

    Each factor is taken apart into a whole number, 12 bits behind the point, and the rest. Exact as
    long as size / factor is at most 4096.
    """
    import onnx_ir as ir

    def as_type(value: Any, dtype: ir.DataType) -> Any:
        return op.Cast(value, to=int(dtype))

    whole = op.Floor(scales)
    fraction = op.Mul(op.Sub(scales, whole), float(_STEPS))
    upper = op.Floor(fraction)
    lower = op.Mul(as_type(sizes, ir.DataType.FLOAT), op.Sub(fraction, upper))
    below = op.Add(
        op.Mul(sizes, as_type(upper, ir.DataType.INT64)),
        as_type(op.Floor(lower), ir.DataType.INT64),
    )
    above = op.Mul(sizes, as_type(whole, ir.DataType.INT64))
    return op.Add(above, op.Div(below, _STEPS))


@custom_op(
    "shipway::bicubic_resize",
    schema="(Tensor input, Tensor scales, bool align_corners=False, bool bilinear=False) -> Tensor",
    types="Tf->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    standard=_standard,
    pure=True,
)
def bicubic_resize_op(
    input: Tensor,
    scales: Tensor,
    align_corners: bool,
    bilinear: bool,
) -> Tensor:
    """Resize planes by factors that are data.

    The output has floor(size * factor) pixels on an axis, multiplied in float64. The factors have
    no gradient.

    Args:
        input: (batch, channels, height, width).
        scales: (2,) float32, the factors of height and width.
        align_corners: Whether the centres of the corner pixels stay where they are.
        bilinear: Bilinear instead of bicubic (a = -0.75).

    Returns:
        (batch, channels, floor(height * scales[0]), floor(width * scales[1])).

    Source: torch.nn.functional.interpolate with scale_factor and recompute_scale_factor=False.
    """
    result = input
    factors = scales.detach().to(torch.float64)
    for at, axis in enumerate(_AXES):
        # One element, not a scalar: the old tracer narrows scalars of float64 to float32.
        result = _resize_axis(result, axis, factors[at : at + 1], align_corners, bilinear)
    return result


def _resize_axis(
    plane: Tensor, axis: int, scale: Tensor, align_corners: bool, bilinear: bool
) -> Tensor:
    size = plane.shape[axis]
    count = _whole_product(size, scale)
    places = torch.arange(count[0], device=plane.device).to(torch.float64)
    if align_corners:
        position = places * ((size - 1) / torch.clamp(count - 1, min=1).to(torch.float64))
    else:
        position = (places + 0.5) / scale - 0.5
    if bilinear:
        position = torch.clamp(position, min=0)
    floor = torch.floor(position)
    part = position - floor
    if bilinear:
        weights = [1 - part, part]
    else:
        weights = [_far(part + 1), _near(part), _near(1 - part), _far(2 - part)]
    result: Any = 0.0
    for tap, weight in enumerate(weights):
        pixel = (floor + (tap - len(weights) // 2 + 1)).to(torch.int64)
        values = torch.index_select(plane, axis, torch.clamp(pixel, 0, size - 1))
        result = result + values * weight.to(plane.dtype).reshape((-1, 1) if axis == 2 else (-1,))
    found: Tensor = result
    return found


def _whole_product(size: int, scale: Tensor) -> Tensor:
    """Return floor(size * scale), the same where float64 is computed as float32.

    The factor is taken apart as in `_floor_product`.
    """
    whole = torch.floor(scale)
    fraction = (scale - whole) * _STEPS
    upper = torch.floor(fraction)
    lower = torch.floor(size * (fraction - upper)).to(torch.int64)
    below = size * upper.to(torch.int64) + lower
    return size * whole.to(torch.int64) + torch.div(below, _STEPS, rounding_mode="floor")


def _near(x: Tensor) -> Tensor:
    return ((_SHARPNESS + 2) * x - (_SHARPNESS + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    return ((_SHARPNESS * x - 5 * _SHARPNESS) * x + 8 * _SHARPNESS) * x - 4 * _SHARPNESS


def bicubic_resize(
    input: Tensor,
    scales: Tensor,
    align_corners: bool = False,
    mode: str = "bicubic",
) -> Tensor:
    """Resize planes by factors that are data; see `bicubic_resize_op`.

    What a node `DynamicTRTResize` of one's own stands for.

    Args:
        input: (batch, channels, height, width).
        scales: (2,) float32, the factors of height and width.
        align_corners: Whether the centres of the corner pixels stay where they are.
        mode: "bicubic" or "bilinear".

    Returns:
        (batch, channels, floor(height * scales[0]), floor(width * scales[1])).

    Raises:
        ValueError: The mode is another one.
    """
    if mode not in {"bicubic", "bilinear"}:
        raise ValueError(f"mode is '{mode}', but must be bicubic or bilinear")
    found: Tensor = bicubic_resize_op(input, scales, align_corners, mode == "bilinear")
    return found
