import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def gather(simplify, order, axis, index="int64 i", rank=2):
    sizes = "a,b,c"[: 2 * rank - 1]
    return simplify(
        HEAD + f"(float[n,4,5] x, {index}) => (float[{sizes}] y) {{\n"
        f"  t = Transpose<perm={order}>(x)\n  y = Gather<axis={axis}>(t, i)\n}}"
    )


@pytest.mark.parametrize(
    ("order", "axis"), [([1, 0, 2], 0), ([2, 0, 1], 0), ([1, 2, 0], -1), ([0, 2, 1], 1)]
)
def test_one_index_is_taken_where_it_comes_from(simplify, order, axis):
    assert gather(simplify, order, axis).ops == ["Gather"]


def test_axes_that_are_still_out_of_order_stay(simplify):
    assert gather(simplify, [2, 1, 0], 0).ops == ["Transpose", "Gather"]


def test_several_indices_stay(simplify):
    assert gather(simplify, [1, 0, 2], 0, "int64[2] i", 3).ops == ["Transpose", "Gather"]
