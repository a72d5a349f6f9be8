"""A tensor that was packed the way the device holds it comes back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipway.errors import TensorError
from shipway.trace.importing.ascend_layout import unpack

_SIZES = st.integers(1, 40)
_SMALL = st.integers(1, 3)
_BLOCK = st.sampled_from([4, 8, 16, 32])


def _counted(shape: tuple[int, ...]) -> np.ndarray:
    """Every element is another one: nothing can be swapped unseen."""
    return np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("format_name", ["NC1HWC0", "FRACTAL_Z", "NHWC", "HWCN"])
@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 20), c=_SIZES, h=_SMALL, w=_SMALL, block=_BLOCK)
def test_images_and_filters_come_back(pack, format_name, n, c, h, w, block):
    value = _counted((n, c, h, w))
    assert np.array_equal(unpack(pack(value, format_name, block), format_name, value.shape), value)


@pytest.mark.parametrize("format_name", ["NDC1HWC0", "FRACTAL_Z_3D", "NDHWC"])
@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 18), c=_SIZES, d=_SMALL, h=_SMALL, w=_SMALL, block=_BLOCK)
def test_volumes_come_back(pack, format_name, n, c, d, h, w, block):
    value = _counted((n, c, d, h, w))
    assert np.array_equal(unpack(pack(value, format_name, block), format_name, value.shape), value)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(_SIZES, min_size=1, max_size=2), batch=st.lists(_SMALL, max_size=2), block=_BLOCK
)
def test_matrices_come_back(pack, shape, batch, block):
    whole = (*(batch if len(shape) == 2 else ()), *shape)
    value = _counted(whole)
    assert np.array_equal(unpack(pack(value, "FRACTAL_NZ", block), "FRACTAL_NZ", whole), value)


def test_what_was_padded_with_something_else_than_zeros_is_cut_all_the_same(pack):
    value = _counted((1, 20, 2, 2))
    stored = pack(value, "NC1HWC0")
    stored[:, 1, :, :, 4:] = np.nan
    assert np.array_equal(unpack(stored, "NC1HWC0", value.shape), value)


def test_without_the_shape_of_the_model_the_padding_stays(pack):
    value = _counted((1, 20, 2, 2))
    found = unpack(pack(value, "NC1HWC0"), "NC1HWC0", ())
    assert found.shape == (1, 32, 2, 2)
    assert np.array_equal(found[:, :20], value)
    matrix = _counted((3, 20, 5))
    found = unpack(pack(matrix, "FRACTAL_NZ"), "FRACTAL_NZ", ())
    assert np.array_equal(found[:, :20, :5], matrix)


@pytest.mark.parametrize(("original", "packed"), [((6, 20), (6, 20, 1, 1)), ((20,), (1, 20, 1, 1))])
def test_a_tensor_of_lower_rank_in_a_layout_of_images(pack, original, packed):
    value = _counted(original)
    stored = pack(value.reshape(packed), "NC1HWC0")
    assert np.array_equal(unpack(stored, "NC1HWC0", original), value)


def test_a_shape_of_the_model_in_its_own_order(pack):
    value = _counted((2, 20, 3, 4))
    stored = pack(value, "NC1HWC0")
    assert np.array_equal(unpack(stored, "NC1HWC0", (2, 3, 4, 20), "NHWC"), value)
    filters = _counted((20, 18, 3, 1))
    assert np.array_equal(
        unpack(pack(filters, "FRACTAL_Z"), "FRACTAL_Z", (3, 1, 18, 20), "HWCN"), filters
    )


@pytest.mark.parametrize(
    ("format_name", "stored", "original"),
    [
        ("NC1HWC0", (1, 1, 4, 4, 16), (1, 20, 4, 4)),  # more channels than were stored
        ("NC1HWC0", (1, 2, 4, 4, 16), (1, 20, 4, 3)),  # another width
        ("NC1HWC0", (1, 2, 4, 4), (1, 20, 4, 4)),  # another rank
        ("FRACTAL_NZ", (1, 1, 16, 16), (20, 16)),
        ("FRACTAL_NZ", (16, 16), (16, 16)),
        ("FRACTAL_NZ", (2, 1, 1, 16, 16), (3, 16, 16)),  # another batch
        ("FRACTAL_Z", (9, 1, 16, 16), (16, 16, 2, 2)),
        ("FRACTAL_Z", (9, 1, 16, 16), (16, 144)),
        ("FRACTAL_Z", (9, 1, 16, 16), ()),
        ("NDC1HWC0", (1, 2, 1, 4, 4, 16), (1, 3, 3, 4, 4)),
        ("ND", (4, 4), (4, 5)),
        ("NHWC", (1, 4, 4, 3), (1, 5, 4, 4)),
        ("FRACTAL_ZN_LSTM", (4, 4), (4, 4)),
    ],
)
def test_shapes_that_contradict_one_another(format_name, stored, original):
    with pytest.raises(TensorError):
        unpack(np.zeros(stored, np.float32), format_name, original)


def test_empty_and_0_d():
    assert unpack(np.zeros((0, 3), np.float32), "ND", (0, 3)).shape == (0, 3)
    assert unpack(np.float32(3).reshape(()), "ND", ()).shape == ()
