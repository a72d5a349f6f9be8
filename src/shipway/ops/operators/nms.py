"""Non-maximum suppression of upright boxes and rotated ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.ops.defining import custom_op
from shipway.ops.definition import BUILT_IN, Sample
from shipway.ops.looping import repeat_while
from shipway.ops.operators.box_iou_rotated import overlaps_rotated, random_rotated

__all__ = ["batched_nms", "nms", "nms_op", "nms_rotated", "nms_rotated_op"]


def _samples(generator: np.random.Generator) -> Iterator[Sample]:
    def boxes(count: int, reach: float = 10) -> tuple[Tensor, Tensor]:
        start = generator.uniform(0, reach, (count, 2))
        end = start + generator.uniform(1, reach, (count, 2))
        # Scores that halves hold exactly, so that no dtype has another order.
        scores = generator.permutation(count) / 1024
        return torch.from_numpy(np.concatenate((start, end), 1)), torch.from_numpy(scores)

    yield Sample("usual", boxes(20), {"iou_threshold": 0.3})
    yield Sample("other number", boxes(31), {"iou_threshold": 0.3})
    yield Sample("pixels", boxes(20), {"iou_threshold": 0.5, "offset": 1})
    tied = boxes(12)
    yield Sample("one score", (tied[0], torch.full_like(tied[1], 0.5)), {"iou_threshold": 0.3})
    yield Sample("one box", boxes(1), {"iou_threshold": 0.3})
    yield Sample("no box", boxes(0), {"iou_threshold": 0.3})
    same = boxes(9)
    same[0][:] = same[0][:1].clone()
    yield Sample("the same box", same, {"iou_threshold": 0.3})
    yield Sample("many", boxes(200, 40), {"iou_threshold": 0.5})


def _samples_rotated(generator: np.random.Generator) -> Iterator[Sample]:
    def boxes(count: int, reach: float = 10) -> tuple[Tensor, Tensor]:
        scores = generator.permutation(count) / 1024
        return random_rotated(generator, count, reach=reach), torch.from_numpy(scores)

    for name, count in (("usual", 20), ("other number", 31), ("one box", 1), ("no box", 0)):
        yield Sample(name, (*boxes(count), None), {"iou_threshold": 0.3})
    labels = torch.from_numpy(generator.integers(0, 3, 25))
    yield Sample("labels", (*boxes(25), labels), {"iou_threshold": 0.1})
    hollow = boxes(9)
    hollow[0][2, 0], hollow[0][4, 2] = torch.nan, 0
    yield Sample("NaN and no area", (*hollow, None), {"iou_threshold": 0.3})
    yield Sample("many", (*boxes(90, 30), None), {"iou_threshold": 0.5})


def _shape(boxes: Tensor, *inputs: Any, **attributes: Any) -> Tensor:
    del inputs, attributes
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept,), dtype=torch.int64)


def _best_first(scores: Tensor) -> Tensor:
    """Return the order of the scores; ties keep their own, as in ONNX's TopK by definition."""
    if torch.compiler.is_exporting():  # the exporter has no rule for a stable sort
        return torch.sort(scores, descending=True).indices
    return torch.sort(scores, descending=True, stable=True).indices


def _keep(order: Tensor, removes: Tensor) -> Tensor:
    """Return the indices that stay, best first.

    A box stays if none that stays removes it. Starting from all, that is repeated until nothing
    changes: as often as there are boxes in the longest chain of removals.

    Args:
        order: (n,) indices, best first.
        removes: (n, n); whether the better box of a row removes that of a column.
    """
    removes = torch.triu(removes.to(torch.int64), 1)

    def changed(kept: Tensor, before: Tensor) -> Tensor:
        # Never empty: ONNX Runtime 1.31 takes the largest of nothing to be true.
        return torch.cat((kept - before, kept.new_zeros(1))).abs().sum(0) > 0

    def again(kept: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        del before
        return 1 - (removes * kept[:, None]).sum(0).clamp(max=1), kept.clone()

    all_of_them = torch.ones_like(order)
    kept, _ = repeat_while(changed, again, all_of_them, torch.zeros_like(order))
    return order[torch.nonzero(kept)[:, 0]]


def _standard(op: Any, inputs: list[Any], attributes: Mapping[str, Any]) -> Any:
    """NonMaxSuppression of ONNX, of one image and one class; it is defined for float32 alone."""
    boxes, scores = (op.Cast(one, to=1) for one in inputs)
    more = float(attributes["offset"])
    boxes = op.Add(boxes, np.array([0, 0, more, more], np.float32))
    picked = op.NonMaxSuppression(
        op.Unsqueeze(boxes, np.array([0])),
        op.Unsqueeze(scores, np.array([0, 1])),
        op.Shape(scores),
        np.array([attributes["iou_threshold"]], np.float32),
    )
    return op.Gather(picked, np.array(2), axis=1)


@custom_op(
    "shipway::nms",
    schema="(Tensor boxes, Tensor scores, float iou_threshold, int offset=0) -> Tensor",
    types="TT->l",
    shape=_shape,
    samples=_samples,
    kernel=BUILT_IN,
    standard=_standard,
    differentiable=False,
    pure=True,
)
def nms_op(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Pick boxes, best first, that overlap no better one that was picked.

    Boxes with one score are picked in their own order.

    Args:
        boxes: (n, 4): left, top, right, bottom.
        scores: (n,).
        iou_threshold: Intersection over union above which the lesser box goes.
        offset: Added to the right and bottom: 1 where boxes are whole pixels.

    Returns:
        (kept,) int64 indices.

    Source: mmcv.ops.nms.
    """
    order = _best_first(scores)
    start, end = boxes[order, :2], boxes[order, 2:] + offset
    area = (end - start).prod(-1)
    low, high = torch.maximum(start[:, None], start), torch.minimum(end[:, None], end)
    common = (high - low).clamp(min=0).prod(-1)
    return _keep(order, common / (area[:, None] + area - common) > iou_threshold)


@custom_op(
    "shipway::nms_rotated",
    schema="(Tensor dets, Tensor scores, Tensor? labels, float iou_threshold) -> Tensor",
    types="TTI->l",
    shape=_shape,
    samples=_samples_rotated,
    kernel=BUILT_IN,
    differentiable=False,
    pure=True,
)
def nms_rotated_op(
    dets: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float
) -> Tensor:
    """Pick rotated boxes, best first, that overlap no better one that was picked.

    Args:
        dets: (n, 5): centre x, centre y, width, height, angle in radians.
        scores: (n,).
        labels: (n,); boxes of different labels leave each other alone.
        iou_threshold: Intersection over union above which the lesser box goes.

    Returns:
        (kept,) int64 indices.

    Source: mmcv.ops.nms_rotated.
    """
    order = _best_first(scores)
    boxes = dets[order]
    removes = overlaps_rotated(boxes[:, None], boxes[None]) > iou_threshold
    if labels is not None:
        sorted_labels = labels[order]
        removes = removes & (sorted_labels[:, None] == sorted_labels)
    return _keep(order, removes)


def nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """Pick boxes that overlap no better one; see `nms_op`. Arguments and results of mmcv.ops.nms.

    Args:
        boxes: (n, 4): left, top, right, bottom.
        scores: (n,).
        iou_threshold: Intersection over union above which the lesser box goes.
        offset: 0, or 1 where boxes are whole pixels.
        score_threshold: Above 0, boxes with no better score are left out.
        max_num: Most boxes to keep; -1 is all.

    Returns:
        (kept, 5) boxes with their scores, and (kept,) indices.

    Raises:
        ValueError: `offset` is neither 0 nor 1.
    """
    if offset not in {0, 1}:
        raise ValueError(f"offset must be 0 or 1, not {offset}")
    chosen = None
    wanted_boxes, wanted_scores = boxes, scores
    if score_threshold > 0:
        chosen = torch.nonzero(scores > score_threshold)[:, 0]
        wanted_boxes, wanted_scores = boxes[chosen], scores[chosen]
    kept: Tensor = nms_op(wanted_boxes, wanted_scores, iou_threshold, offset)
    kept = kept[:max_num] if max_num > 0 else kept
    kept = kept if chosen is None else chosen[kept]
    return torch.cat((boxes[kept], scores[kept][:, None]), dim=1), kept


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    iou_threshold: float,
    labels: Tensor | None = None,
    clockwise: bool = True,
) -> tuple[Tensor, Tensor]:
    """Pick rotated boxes that overlap no better one; see `nms_rotated_op`.

    Argument order of mmcv.ops.nms_rotated, which returns None for the indices of no boxes.

    Args:
        dets: (n, 5): centre x, centre y, width, height, angle in radians.
        scores: (n,).
        iou_threshold: Intersection over union above which the lesser box goes.
        labels: (n,); boxes of different labels leave each other alone.
        clockwise: Angles turn clockwise, in images, where y points down.

    Returns:
        (kept, 6) boxes with their scores, and (kept,) indices.
    """
    turned = dets if clockwise else dets * dets.new_tensor([1, 1, 1, 1, -1])
    kept: Tensor = nms_rotated_op(turned, scores, labels, iou_threshold)
    return torch.cat((dets[kept], scores[kept][:, None]), dim=1), kept


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    nms_cfg: Mapping[str, Any] | None,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Pick boxes that overlap no better one of their class. Arguments and results of mmcv.ops.batched_nms.

    Args:
        boxes: (n, 4), or (n, 5) for rotated boxes.
        scores: (n,).
        idxs: (n,) classes.
        nms_cfg: {"type": "nms" or "nms_rotated", "iou_threshold": ..., "max_num": ..., ...}; None
            only sorts by score. "split_thr" is without effect: nothing here needs splitting.
        class_agnostic: Boxes of other classes count, too.

    Returns:
        (kept, 5 or 6) boxes with their scores, and (kept,) indices.

    Raises:
        ValueError: The type of suppression is none that is known here.
    """
    if nms_cfg is None:
        order = _best_first(scores)
        return torch.cat((boxes[order], scores[order][:, None]), -1), order
    settings = dict(nms_cfg)
    settings.pop("split_thr", None)
    class_agnostic = settings.pop("class_agnostic", class_agnostic)
    kind, limit = settings.pop("type", "nms"), settings.pop("max_num", -1)
    if kind == "nms_rotated":
        labels = None if class_agnostic else idxs
        _, kept = nms_rotated(boxes, scores, labels=labels, **settings)
    elif kind == "nms":
        # Each class on ground of its own, so that boxes of two classes never meet.
        step = torch.cat((boxes.reshape(-1), boxes.new_zeros(1))).max() + 1
        apart = boxes if class_agnostic else boxes + (idxs.to(boxes) * step)[:, None]
        _, kept = nms(apart, scores, **settings)
    else:
        raise ValueError(f"nms_cfg has the type '{kind}'; there are 'nms' and 'nms_rotated'")
    kept = kept[:limit] if limit > 0 else kept
    return torch.cat((boxes[kept], scores[kept][:, None]), -1), kept
