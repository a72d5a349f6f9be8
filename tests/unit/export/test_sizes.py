"""Sizes of the example: accepted by torch, different from one another, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.errors import ExportError
from shipway.export.sizes import check_bounds, dynamic_dims, example_sizes
from shipway.tensors import TensorSpec, parse_spec

DIMS = st.one_of(st.integers(1, 70), st.sampled_from(["a", "b", "c", "d"]))
SHAPES = st.lists(DIMS, min_size=0, max_size=5).map(tuple)
BOUNDS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.tuples(st.integers(1, 60), st.integers(2, 60)).map(
        lambda pair: (min(pair), max(*pair, min(pair) + 1))
    ),
)


@given(st.lists(SHAPES, min_size=1, max_size=3), BOUNDS)
def test_sizes_are_dynamic_for_torch_and_within_bounds(shapes, bounds):
    """Never 0 or 1, which torch takes for constants, and never outside what the user allows."""
    specs = [TensorSpec(f"x{i}", "float32", shape) for i, shape in enumerate(shapes)]
    for sizes in example_sizes(specs, bounds):
        assert set(sizes) == set(dynamic_dims(specs))
        for name, size in sizes.items():
            low, high = bounds.get(name, (1, None))
            assert size >= max(2, low)
            assert high is None or size <= high


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_sizes_without_bounds_collide_with_nothing(shapes):
    """Neither with one another nor with a fixed size: an equality could hide a mix-up."""
    specs = [TensorSpec(f"x{i}", "float32", shape) for i, shape in enumerate(shapes)]
    fixed = {dim for shape in shapes for dim in shape if isinstance(dim, int)}
    for sizes in example_sizes(specs, {}):
        assert len(set(sizes.values())) == len(sizes)
        assert not fixed & set(sizes.values())


def test_the_first_try_is_small_for_batches_and_large_for_images():
    """A batch of 3; images that survive a few poolings; short sequences."""
    specs = [parse_spec("image:[batch,3,h,w]"), parse_spec("ids:i64[batch,length]")]
    assert next(iter(example_sizes(specs, {}))) == {"batch": 4, "h": 64, "w": 96, "length": 6}


def test_no_dynamic_dimension_gives_one_try():
    """And nothing to choose."""
    assert list(example_sizes([parse_spec("x:[2,3]")], {})) == [{}]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"other": (1, 4)}, "'other', which is no dynamic dimension"),
        ({"n": (1, 1)}, r"'n' may only be 1\.\.1"),
        ({"n": (7, 7)}, r"'n' may only be 7\.\.7"),
    ],
)
def test_bounds_that_leave_no_room_are_refused(bounds, message):
    """A dimension of one size is a fixed one."""
    with pytest.raises(ExportError, match=message):
        check_bounds([parse_spec("x:[n,3]")], bounds)
