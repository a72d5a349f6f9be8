"""Intersection over union of rotated boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample

__all__ = ["box_iou_rotated", "box_iou_rotated_op", "overlaps_rotated", "random_rotated"]

_SLACK = 1e-6


def random_rotated(generator: np.random.Generator, count: int, *, reach: float = 10) -> Tensor:
    """Return (count, 5) rotated boxes that overlap often."""
    centre = generator.uniform(0, reach, (count, 2))
    size = generator.uniform(1, reach, (count, 2))
    angle = generator.uniform(-math.pi, math.pi, (count, 1))
    return torch.from_numpy(np.concatenate((centre, size, angle), 1))


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def boxes(count: int) -> Tensor:
        return random_rotated(generator, count)

    yield Sample("usual", (boxes(7), boxes(5)))
    yield Sample("over the first", (boxes(7), boxes(5)), {"of_first": True})
    yield Sample("aligned", (boxes(9), boxes(9)), {"aligned": True})
    same = boxes(6)
    yield Sample("with themselves", (same, same.clone()))
    upright = boxes(6)
    upright[:, 4] = 0
    yield Sample("upright", (upright, boxes(3)))
    yield Sample("one box", (boxes(1), boxes(1)))
    far = boxes(4)
    far[:, :2] += 500
    yield Sample("apart", (far, boxes(3)))
    yield Sample("none on one side", (boxes(0), boxes(3)))
    flat = boxes(5)
    flat[0, 2], flat[1, 3], flat[2, 0] = 0, -1, torch.nan
    yield Sample("no area and NaN", (flat, boxes(3)))
    yield Sample("many", (boxes(60), boxes(40)))
    yield Sample("for the gradient", (boxes(3), boxes(2)), gradient=True)


def _shape(boxes1: Tensor, boxes2: Tensor, of_first: bool = False, aligned: bool = False) -> Tensor:
    del of_first
    rows = boxes1.shape[0]
    return boxes1.new_empty((rows,) if aligned else (rows, boxes2.shape[0]))


# Spots are x and y of shape (spots, ...): ONNX Runtime 1.31 does not reduce the last axis of an empty
# tensor, so nothing here is summed over a last axis.
_Spots = tuple[Tensor, Tensor]


def _corners(box: Tensor, centre: Tensor) -> _Spots:
    """Return the 4 corners, relative to a centre."""
    right, down = box[..., 2] / 2, box[..., 3] / 2
    x, y = torch.stack((-right, right, right, -right)), torch.stack((-down, -down, down, down))
    sine, cosine = torch.sin(box[..., 4]), torch.cos(box[..., 4])
    middle = box[..., :2] - centre
    return cosine * x - sine * y + middle[..., 0], sine * x + cosine * y + middle[..., 1]


def _lies_in(spots: _Spots, box: Tensor, centre: Tensor) -> Tensor:
    """Say which spots lie in a box, borders included, up to rounding."""
    sine, cosine = torch.sin(box[..., 4]), torch.cos(box[..., 4])
    middle = box[..., :2] - centre
    x, y = spots[0] - middle[..., 0], spots[1] - middle[..., 1]
    across, along = cosine * x + sine * y, cosine * y - sine * x
    wide, high = (box[..., at] / 2 * (1 + _SLACK) for at in (2, 3))
    return (across.abs() <= wide) & (along.abs() <= high)


def _step(spots: _Spots) -> _Spots:
    """Return the way from each spot to the next."""
    x, y = (torch.roll(one, -1, 0) - one for one in spots)
    return x, y


def _crossings(one: _Spots, other: _Spots) -> tuple[_Spots, Tensor]:
    """Return the 16 crossings of the edges of two boxes, and which there are."""
    start_x, start_y = (axis[:, None] for axis in one)
    step = tuple(axis[:, None] for axis in _step(one))
    edge = tuple(axis[None] for axis in _step(other))
    gap = (other[0][None] - start_x, other[1][None] - start_y)
    turn = step[0] * edge[1] - step[1] * edge[0]
    crossing = turn != 0
    safe = torch.where(crossing, turn, torch.ones_like(turn))
    s = (gap[0] * edge[1] - gap[1] * edge[0]) / safe
    t = (gap[0] * step[1] - gap[1] * step[0]) / safe
    found = crossing & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    x, y = start_x + s * step[0], start_y + s * step[1]
    return (x.flatten(0, 1), y.flatten(0, 1)), found.flatten(0, 1)


def _common_area(first: Tensor, second: Tensor) -> Tensor:
    """Return the area that is in both of (..., 5) boxes."""
    centre = first[..., :2]  # near 0, where floats are dense
    one, other = _corners(first, centre), _corners(second, centre)
    crossings, crossed = _crossings(one, other)
    valid = torch.cat((_lies_in(one, second, centre), _lies_in(other, first, centre), crossed))
    count = valid.sum(0)
    ring = []
    for axis in range(2):
        spots = torch.cat((one[axis], other[axis], crossings[axis]))
        zeros = torch.zeros_like(spots)
        middle = torch.where(valid, spots, zeros).sum(0) / count.clamp(min=1)
        ring.append(torch.where(valid, spots - middle, zeros))
    # atan2 has no gradient at (0, 0), and none is wanted: the order is all that counts.
    x, y = (axis.detach() for axis in ring)
    angle = torch.where(valid, torch.atan2(y, x), torch.full_like(x, 10.0))
    order = torch.argsort(angle, dim=0)
    there = torch.gather(valid, 0, order)
    for axis in range(2):
        turned = torch.gather(ring[axis], 0, order)
        ring[axis] = torch.where(there, turned, turned[:1])
    twice = (ring[0] * torch.roll(ring[1], -1, 0) - ring[1] * torch.roll(ring[0], -1, 0)).sum(0)
    return torch.where(count >= 3, twice.abs() / 2, torch.zeros_like(twice))


def overlaps_rotated(first: Tensor, second: Tensor, *, of_first: bool = False) -> Tensor:
    """Return the intersection over union of (..., 5) rotated boxes; 0 for one without area or place.

    Args:
        first: Boxes; broadcast against `second`.
        second: Boxes.
        of_first: Divide by the area of the first box instead.
    """
    first, second = torch.broadcast_tensors(first, second)
    reach = torch.zeros_like(first[..., 0])
    for box in (first, second):
        for at in range(5):
            reach = reach + box[..., at].abs()
    sizes = torch.minimum(first[..., 2:4], second[..., 2:4])
    usable = (reach < torch.inf) & (sizes[..., 0] > 0) & (sizes[..., 1] > 0)
    unit = torch.ones_like(first)
    first, second = (torch.where(usable[..., None], box, unit) for box in (first, second))
    common = _common_area(first, second)
    one, other = first[..., 2] * first[..., 3], second[..., 2] * second[..., 3]
    share = common / (one if of_first else one + other - common)
    return torch.where(usable, share, torch.zeros_like(share))


@custom_op(
    "shipway::box_iou_rotated",
    schema="(Tensor boxes1, Tensor boxes2, bool of_first=False, bool aligned=False) -> Tensor",
    types="TT->T",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    pure=True,
)
def box_iou_rotated_op(
    boxes1: Tensor, boxes2: Tensor, of_first: bool = False, aligned: bool = False
) -> Tensor:
    """Compute how much rotated boxes overlap: the common area over that of both together.

    Corners of each box in the other and crossings of their edges, sorted around their middle, span
    the common area. A box without area, or with a NaN, overlaps nothing.

    Args:
        boxes1: (n, 5): centre x, centre y, width, height, angle in radians.
        boxes2: (m, 5).
        of_first: Divide by the area of the first box (mode "iof").
        aligned: Box by box instead of each with each.

    Returns:
        (n, m), or (n,) where they are aligned.

    Source: mmcv.ops.box_iou_rotated, for angles and modes.
    """
    if aligned:
        return overlaps_rotated(boxes1, boxes2, of_first=of_first)
    return overlaps_rotated(boxes1[:, None], boxes2[None], of_first=of_first)


def box_iou_rotated(
    bboxes1: Tensor,
    bboxes2: Tensor,
    mode: str = "iou",
    aligned: bool = False,
    clockwise: bool = True,
) -> Tensor:
    """Compute how much rotated boxes overlap; see `box_iou_rotated_op`.

    Argument order of mmcv.ops.box_iou_rotated.

    Args:
        bboxes1: (n, 5): centre x, centre y, width, height, angle in radians.
        bboxes2: (m, 5).
        mode: "iou", or "iof" for the share of the first box.
        aligned: Box by box instead of each with each.
        clockwise: Angles turn clockwise, in images, where y points down.

    Raises:
        ValueError: `mode` is neither.
    """
    if mode not in {"iou", "iof"}:
        raise ValueError(f"mode must be 'iou' or 'iof', not '{mode}'")
    if not clockwise:
        turn = bboxes1.new_tensor([1, 1, 1, 1, -1])
        bboxes1, bboxes2 = bboxes1 * turn, bboxes2 * turn
    found: Tensor = box_iou_rotated_op(bboxes1, bboxes2, mode == "iof", aligned)
    return found
