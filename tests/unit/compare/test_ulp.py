"""Distances between floating-point numbers."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.compare.ulp import max_ulp, narrower
from shipway.tensors import dtype_named, dtype_of


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)])
def test_distance_is_the_difference_of_ranks_among_all_values(dtype):
    """Checked against a sorted list of every finite value of the type."""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # bfloat16 warns of signalling NaN
        finite = every[np.isfinite(every)]
    ranked = np.unique(finite.astype(np.float64))
    left, right = np.random.default_rng(0).choice(finite, (2, 500))
    for golden, actual in zip(left, right, strict=True):
        ranks = np.searchsorted(ranked, [float(golden), float(actual)])
        pair = (np.array([golden]), np.array([actual]))
        assert max_ulp(*pair, dtype_of(dtype)) == abs(ranks[0] - ranks[1])


@given(st.floats(width=32, allow_nan=False), st.integers(0, 100))
def test_a_walk_of_n_steps_is_n_apart(start, steps):
    walked = np.float32(start)
    with np.errstate(over="ignore"):
        for _ in range(steps):
            walked = np.nextafter(walked, np.float32(np.inf))
    expected = steps if np.isfinite(walked) else None
    found = max_ulp(np.array([start], np.float32), np.array([walked]), dtype_named("f32"))
    assert expected is None or found == expected


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_both_zeros_are_the_same_place(name):
    dtype = dtype_named(name)
    zero = np.zeros(1, dtype.numpy)
    assert max_ulp(zero, -zero, dtype) == 0


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_the_farthest_distance_does_not_overflow(name):
    dtype = dtype_named(name)
    largest = np.array([ml_dtypes.finfo(dtype.numpy).max], dtype.numpy)
    bits = dtype.numpy.itemsize * 8
    steps = int(largest.view(f"u{bits // 8}")[0])
    assert max_ulp(-largest, largest, dtype) == 2 * steps


def test_the_wider_side_is_rounded_first():
    golden = np.array([1 / 3], np.float32)
    assert max_ulp(golden, golden.astype(np.float16), dtype_named("f16")) == 0


def test_foreign_byte_order_and_strides_are_read_right():
    golden = np.arange(10, dtype=">f4")[::2]
    assert max_ulp(golden, golden.astype("<f4"), dtype_named("f32")) == 0


@pytest.mark.parametrize(
    ("golden", "actual", "expected"),
    [
        ("float32", "float16", "float16"),
        ("float16", "bfloat16", "bfloat16"),
        ("float64", "float32", "float32"),
        ("float32", "int32", None),
        ("bool", "float32", None),
    ],
)
def test_narrower_is_the_one_with_fewer_mantissa_bits(golden, actual, expected):
    found = narrower(dtype_named(golden).numpy, dtype_named(actual).numpy)
    assert (found.name if found else None) == expected


def test_a_value_beyond_the_narrower_type_is_one_step_past_its_largest():
    golden = np.array([65504, 1e30], np.float32)
    assert max_ulp(golden[:1], golden[1:], dtype_named("f16")) == 1
