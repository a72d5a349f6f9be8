import numpy as np
import pytest

HEAD = '<ir_version: 7, opset_import: ["" : 11]>\nmain '
INT32, INT64 = 6, 7


def types(found):
    return {one.name: one.data_type for one in found.proto.graph.initializer}


def test_indices_of_gather_become_int32(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,2] y) <int64[2] i> {\n  y = Gather<axis=1>(x, i)\n}",
        weights={"i": np.array([-1, 2])},
        profile="ascend",
        sizes=(0, 1, 3),
    )
    assert list(types(found).values()) == [INT32]
    assert found.rules == {"narrow_indices": 1}


@pytest.mark.parametrize("end", [3, 2**63 - 1, 2**31])
def test_numbers_of_a_slice_become_int32_and_the_end_stays_the_end(simplify, end):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,m] y) <int64[1] a, int64[1] b, int64[1] c> {\n"
        "  y = Slice(x, a, b, c)\n}",
        weights={"a": np.array([1]), "b": np.array([end]), "c": np.array([-1])},
        profile="ascend",
        sizes=(0, 1, 3),
    )
    assert set(types(found).values()) == {INT32}


def test_a_slice_from_the_far_beginning_takes_all(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,m] y) <int64[1] a, int64[1] b, int64[1] c> {\n"
        "  y = Slice(x, a, b, c)\n}",
        weights={"a": np.array([-(2**63)]), "b": np.array([-1]), "c": np.array([1])},
        profile="ascend",
    )
    assert set(types(found).values()) == {INT32}


def test_a_slice_backwards_keeps_an_end_that_engines_read_differently(simplify):
    found = simplify(
        HEAD
        + "(float[n,4] x) => (float[n,m] y) <int64[1] a, int64[1] b, int64[1] c, int64[1] d> {\n"
        "  y = Slice(x, a, b, c, d)\n}",
        weights={
            "a": np.array([3]),
            "b": np.array([-(2**63)]),
            "c": np.array([1]),
            "d": np.array([-1]),
        },
        profile="ascend",
    )
    assert set(types(found).values()) == {INT64}


def test_a_constant_that_a_reshape_needs_too_stays(simplify):
    """Two constants would be more bytes than one."""
    found = simplify(
        HEAD + "(float[n,2] x, float[6] z) => (float[n,2] y, float[1,6] w) <int64[2] i> {\n"
        "  y = Gather<axis=1>(x, i)\n  w = Reshape(z, i)\n}",
        weights={"i": np.array([1, -1])},
        profile="ascend",
    )
    assert list(types(found).values()) == [INT64]


def test_a_slice_with_a_computed_end_stays(simplify):
    found = simplify(
        HEAD
        + "(float[n,4] x, int64[1] b) => (float[m,4] y) <int64[1] a> {\n  y = Slice(x, a, b)\n}",
        weights={"a": np.array([0])},
        profile="ascend",
    )
    assert list(types(found).values()) == [INT64]


def test_other_profiles_keep_int64(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,2] y) <int64[2] i> {\n  y = Gather<axis=1>(x, i)\n}",
        weights={"i": np.array([-1, 2])},
    )
    assert list(types(found).values()) == [INT64]
