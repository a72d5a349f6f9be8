"""A tensor that an engine keeps with its axes in another order is compared in golden's."""

import itertools

import numpy as np
import pytest

from shipway.compare.diagnosis import Match
from shipway.compare.reordering import arrange, find_axes
from shipway.trace.statistics import summarize

VALUE = np.random.default_rng(3).standard_normal((2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(
    "axes", [axes for axes in itertools.permutations(range(4)) if axes != (0, 1, 2, 3)]
)
def test_every_order_of_axes_is_found_and_undone(axes) -> None:
    moved = VALUE.transpose(axes).copy()
    ((name, match),) = find_axes(VALUE, {"t": (moved.shape, summarize(moved))})
    assert name == "t"
    np.testing.assert_array_equal(arrange(moved, match, VALUE.shape), VALUE)


def test_equal_sizes_do_not_confuse_it() -> None:
    square = np.random.default_rng(4).standard_normal((4, 4, 4)).astype(np.float32)
    moved = square.transpose(2, 0, 1).copy()
    ((_, match),) = find_axes(square, {"t": (moved.shape, summarize(moved))})
    np.testing.assert_array_equal(arrange(moved, match, square.shape), square)


@pytest.mark.parametrize(
    ("golden", "moved"),
    [
        (
            VALUE[:1],
            VALUE[:1].transpose(0, 2, 1, 3)[:, :, None],
        ),  # ONNX Runtime's Split of q, k and v
        (VALUE[:, :1], VALUE[:, 0].transpose(2, 0, 1)),
    ],
)
def test_axes_of_size_one_do_not_count(golden, moved) -> None:
    ((_, match),) = find_axes(golden, {"t": (moved.shape, summarize(moved.copy()))})
    np.testing.assert_array_equal(arrange(moved, match, golden.shape), golden)


def test_any_other_order_is_none() -> None:
    shuffled = np.random.default_rng(5).permutation(VALUE.ravel()).reshape(2, 4, 5, 3)
    assert not list(find_axes(VALUE, {"t": (shuffled.shape, summarize(shuffled))}))


def test_without_axes_it_is_only_reshaped() -> None:
    found = arrange(VALUE.reshape(6, 20), Match("name", 1.0), VALUE.shape)
    np.testing.assert_array_equal(found, VALUE)
