"""Boxes and regions, against loops written without them."""

import math

import numpy as np
import pytest
import torch

from shipway.ops import (
    RoIAlign,
    RoIAlignRotated,
    batched_nms,
    box_iou_rotated,
    nms,
    nms_rotated,
    roi_align,
    roi_align_rotated,
)


@pytest.fixture
def generator():
    return np.random.default_rng(5)


def _read(plane, y, x):
    """One value between the pixels of a plane, up to a pixel outside its border."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def _align(features, roi, size, scale, sampling, aligned, pool, turn=None):
    """One region, sample by sample; `turn` maps (down, across) to (y, x) for rotated ones."""
    plane = features[int(roi[0])]
    shift = 0.5 if aligned else 0.0
    if turn is None:
        left, top, right, bottom = (number * scale - shift for number in roi[1:])
        wide, high = right - left, bottom - top
    else:
        wide, high = roi[3] * scale, roi[4] * scale
        top, left = -high / 2, -wide / 2
    if not aligned:
        wide, high = max(wide, 1), max(high, 1)
        if turn is not None:
            top, left = -high / 2, -wide / 2
    bins = high / size[0], wide / size[1]
    grid = [sampling or max(math.ceil(one), 0) for one in bins]
    out = np.zeros((plane.shape[0], *size))
    for row, column in np.ndindex(*size):
        values = []
        for i, j in np.ndindex(*grid):
            y = top + row * bins[0] + (i + 0.5) * bins[0] / grid[0]
            x = left + column * bins[1] + (j + 0.5) * bins[1] / grid[1]
            y, x = (y, x) if turn is None else turn(y, x)
            values.append([_read(channel, y, x) for channel in plane])
        if values:
            out[:, row, column] = pool(values, axis=0)
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("sampling", "mode"), [(2, "avg"), (0, "avg"), (2, "max"), (0, "max")])
def test_roi_align(generator, sampling, mode, aligned):
    """Each bin's average or largest sample, with fixed and adaptive numbers of them."""
    features = generator.standard_normal((2, 3, 9, 11))
    start, extent = generator.uniform(-2, 12, (4, 2)), generator.uniform(0.2, 12, (4, 2))
    rois = np.concatenate((generator.integers(0, 2, (4, 1)), start, start + extent), 1)
    pool = np.mean if mode == "avg" else np.max
    golden = [_align(features, roi, (3, 2), 0.5, sampling, aligned, pool) for roi in rois]
    layer = RoIAlign((3, 2), 0.5, sampling, mode, aligned)
    actual = layer(torch.from_numpy(features), torch.from_numpy(rois))
    np.testing.assert_allclose(actual.numpy(), golden, atol=1e-12)


@pytest.mark.parametrize("clockwise", [False, True])
@pytest.mark.parametrize(("sampling", "aligned"), [(2, True), (0, True), (2, False)])
def test_roi_align_rotated(generator, sampling, aligned, clockwise):
    """Samples turned around the centre of the region."""
    features = generator.standard_normal((1, 2, 12, 10))
    rois = generator.uniform(2, 12, (3, 6))
    rois[:, 0], rois[:, 5] = 0, generator.uniform(-3, 3, 3)
    shift = 0.5 if aligned else 0.0
    golden = []
    for roi in rois:
        angle = -roi[5] if clockwise else roi[5]
        sine, cosine = math.sin(angle), math.cos(angle)
        x0, y0 = roi[1] * 0.5 - shift, roi[2] * 0.5 - shift

        def turn(y, x, sine=sine, cosine=cosine, x0=x0, y0=y0):
            return y * cosine - x * sine + y0, y * sine + x * cosine + x0

        golden.append(_align(features, roi, (2, 3), 0.5, sampling, aligned, np.mean, turn))
    layer = RoIAlignRotated((2, 3), 0.5, sampling, aligned, clockwise)
    actual = layer(torch.from_numpy(features), torch.from_numpy(rois))
    np.testing.assert_allclose(actual.numpy(), golden, atol=1e-12)


def test_a_region_of_an_image_that_is_not_there_is_refused():
    """The kernel reads nothing outside the features."""
    rois = torch.tensor([[2.0, 0, 0, 4, 4]])
    with pytest.raises(RuntimeError, match=r"region 0 is of image 2\.0+, but there are 2"):
        roi_align(torch.zeros(2, 1, 5, 5), rois, 2)
    with pytest.raises(RuntimeError, match=r"rois must be \[n, 6\]"):
        roi_align_rotated(torch.zeros(2, 1, 5, 5), rois, 2)
    huge = torch.tensor([[0.0, 0, 0, 1e5, 1e5]])
    with pytest.raises(RuntimeError, match=r"region 0 needs more than \d+ samples"):
        roi_align(torch.zeros(1, 1, 5, 5), huge, 2)
    with pytest.raises(ValueError, match="'avg' or 'max', not 'sum'"):
        roi_align(torch.zeros(2, 1, 5, 5), rois, 2, pool_mode="sum")


def _iou(a, b, more=0):
    wide = min(a[2], b[2]) + more - max(a[0], b[0])
    high = min(a[3], b[3]) + more - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    areas = sum((c[2] + more - c[0]) * (c[3] + more - c[1]) for c in (a, b))
    return common / (areas - common)


def _greedy(count, order, overlaps):
    kept = []
    for at in order[:count]:
        if not any(overlaps(best, at) for best in kept):
            kept.append(int(at))
    return kept


@pytest.mark.parametrize("offset", [0, 1])
def test_nms(generator, offset):
    """The greedy loop; boxes come back with their scores."""
    start = generator.uniform(0, 10, (40, 2))
    boxes = np.concatenate((start, start + generator.uniform(1, 8, (40, 2))), 1)
    scores = generator.uniform(0, 1, 40)
    order = np.argsort(-scores, kind="stable")
    golden = _greedy(40, order, lambda a, b: _iou(boxes[a], boxes[b], offset) > 0.4)
    found, kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4, offset)
    assert kept.tolist() == golden
    np.testing.assert_array_equal(found[:, :4], boxes[golden])
    np.testing.assert_array_equal(found[:, 4], scores[golden])


def test_nms_leaves_out_low_scores_and_stops_early():
    """Indices are those of the boxes that were given."""
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10], [20, 20, 21, 21]])
    scores = torch.tensor([0.1, 0.7, 0.9, 0.8])
    _, kept = nms(boxes, scores, 0.5, score_threshold=0.5, max_num=2)
    assert kept.tolist() == [2, 3]


def test_batched_nms():
    """Classes leave each other alone unless they are to be mixed."""
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 3.9], [8, 8, 9, 9]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 1, 0, 0])
    setting = {"type": "nms", "iou_threshold": 0.5}
    assert batched_nms(boxes, scores, classes, setting)[1].tolist() == [0, 1, 3]
    assert batched_nms(boxes, scores, classes, setting, class_agnostic=True)[1].tolist() == [0, 3]
    few = {**setting, "max_num": 2}
    dets, kept = batched_nms(boxes, scores, classes, few)
    assert (kept.tolist(), dets.shape) == ([0, 1], (2, 5))
    assert batched_nms(boxes, scores, classes, None)[1].tolist() == [0, 1, 2, 3]
    turned = torch.cat((boxes, torch.zeros(4, 1)), 1)
    rotated = {"type": "nms_rotated", "iou_threshold": 0.5}
    assert 1 in batched_nms(turned, scores, classes, rotated)[1].tolist()
    with pytest.raises(ValueError, match="the type 'soft_nms'"):
        batched_nms(boxes, scores, classes, {"type": "soft_nms"})


def _common(first, second, samples=1201):
    """The common area of two rotated boxes, by counting a fine grid over the first."""
    u, v = np.meshgrid(*[(np.arange(samples) + 0.5) / samples - 0.5] * 2)
    x, y, wide, high, angle = first
    px = x + u * wide * math.cos(angle) - v * high * math.sin(angle)
    py = y + u * wide * math.sin(angle) + v * high * math.cos(angle)
    x, y, other_wide, other_high, angle = second
    dx, dy = px - x, py - y
    across = dx * math.cos(angle) + dy * math.sin(angle)
    along = dy * math.cos(angle) - dx * math.sin(angle)
    inside = (abs(across) <= other_wide / 2) & (abs(along) <= other_high / 2)
    return inside.mean() * wide * high


def test_box_iou_rotated(generator):
    """Areas counted on a grid; both modes, aligned and not, either direction."""
    boxes = generator.uniform(1, 6, (2, 4, 5))
    boxes[..., 4] = generator.uniform(-3, 3, (2, 4))
    first, second = torch.from_numpy(boxes[0]), torch.from_numpy(boxes[1])
    common = np.array([[_common(a, b) for b in boxes[1]] for a in boxes[0]])
    area = boxes[..., 2] * boxes[..., 3]
    golden = common / (area[0][:, None] + area[1] - common)
    np.testing.assert_allclose(box_iou_rotated(first, second).numpy(), golden, atol=3e-3)
    aligned = box_iou_rotated(first, second, "iof", aligned=True).numpy()
    np.testing.assert_allclose(aligned, np.diag(common) / area[0], atol=3e-3)
    mirror = torch.tensor([1.0, 1, 1, 1, -1], dtype=torch.float64)
    turned = box_iou_rotated(first * mirror, second * mirror, clockwise=False)
    np.testing.assert_allclose(turned.numpy(), golden, atol=3e-3)


def test_the_same_rotated_box_overlaps_itself_wholly(generator):
    """Where all edges coincide."""
    boxes = torch.from_numpy(generator.uniform(1, 9, (50, 5))).float()
    np.testing.assert_allclose(box_iou_rotated(boxes, boxes, aligned=True).numpy(), 1, atol=1e-5)


def test_nms_rotated(generator):
    """The greedy loop over overlaps counted on a grid; labels leave each other alone."""
    boxes = generator.uniform(1, 7, (12, 5))
    boxes[:, 4] = generator.uniform(-3, 3, 12)
    scores, labels = generator.uniform(0, 1, 12), generator.integers(0, 2, 12)
    area = boxes[:, 2] * boxes[:, 3]

    def share(a, b):
        common = _common(boxes[a], boxes[b], 301)
        return common / (area[a] + area[b] - common)

    order = np.argsort(-scores)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    golden = _greedy(12, order, lambda a, b: share(a, b) > 0.3)
    assert nms_rotated(*tensors, 0.3)[1].tolist() == golden
    golden = _greedy(12, order, lambda a, b: labels[a] == labels[b] and share(a, b) > 0.3)
    dets, kept = nms_rotated(*tensors, 0.3, torch.from_numpy(labels))
    assert kept.tolist() == golden
    assert dets.shape == (len(golden), 6)
