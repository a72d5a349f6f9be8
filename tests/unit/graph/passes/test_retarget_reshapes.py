import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_a_computed_target_becomes_constant(simplify):
    found = simplify(
        HEAD + "(float[n,4,6] x) => (float[n,24] y) <int64[1] i = {0}, int64[1] k = {24}> {\n"
        "  s = Shape(x)\n  a = Gather<axis=0>(s, i)\n  t = Concat<axis=0>(a, k)\n  y = Reshape(x, t)\n}",
        sizes=(0, 1, 3),
    )
    assert found.ops == ["Reshape"]


def test_reshapes_in_a_row_become_one(simplify):
    found = simplify(
        HEAD
        + "(float[n,4,6] x) => (float[n,24] y) <int64[2] t = {-1,6}, int64[2] u = {-1,24}, int64[1] z = {0}> {\n"
        "  a = Reshape(x, t)\n  b = Unsqueeze(a, z)\n  c = Squeeze(b, z)\n  y = Reshape(c, u)\n}"
    )
    assert found.ops == ["Reshape"]


def test_two_open_sizes_stay_computed(simplify):
    found = simplify(
        HEAD + "(float[n,m,4] x) => (float[m,n,4] y) <int64[3] i = {1,0,2}> {\n"
        "  s = Shape(x)\n  t = Gather<axis=0>(s, i)\n  y = Reshape(x, t)\n}"
    )
    assert found.ops == ["Shape", "Gather", "Reshape"]


@pytest.mark.parametrize("size", [0, 2])
def test_an_open_size_beside_a_copied_one_stays_as_it_was(simplify, size):
    # [0, -1, 6] of an empty tensor has no answer, [n, m, 6] has.
    found = simplify(
        HEAD
        + "(float[n,k] x, float[n,m,6] z) => (float[n,m,6] y) { s = Shape(z)  y = Reshape(z, s) }",
        sizes=(size,),
    )
    assert found.ops == ["Identity"]


def test_allowzero_keeps_its_meaning(simplify):
    found = simplify(
        HEAD + "(float[n,0,4] x) => (float[0,n,4] y) <int64[3] i = {1,0,2}> {\n"
        "  s = Shape(x)\n  t = Gather<axis=0>(s, i)\n  y = Reshape<allowzero=1>(x, t)\n}"
    )
    assert found.ops[-1] == "Reshape"


def test_a_computed_zero_is_taken_for_a_copy_unless_it_is_said_that_there_is_none(tmp_path):
    import onnx_ir as ir

    from shipway.graph.simplify import SimplifyOptions, simplify_graph

    text = (
        HEAD
        + "(float[n,8,m,4] x) => (float[k,m,4] y) <int64[1] i = {2}, int64[1] f = {4}, int64[1] r = {-1}> {\n"
        "  s = Shape(x)\n  a = Gather<axis=0>(s, i)\n  t = Concat<axis=0>(r, a, f)\n  u = Reshape(x, t)\n"
        "  v = Shape(u)\n  w = Reshape(u, v)\n  y = Relu(w)\n}"
    )
    strict = simplify_graph(ir.from_onnx_text(text))
    assert strict.assumes == ()
    loose = simplify_graph(ir.from_onnx_text(text), SimplifyOptions(nonempty=True))
    assert loose.assumes == ("no dimension is 0",)
    assert loose.nodes_after <= strict.nodes_after


def test_a_number_that_is_the_size_at_its_place_is_copied_beside_an_open_one(simplify):
    found = simplify(
        HEAD
        + "(float[n,h,w,6] x) => (float[n,k,6] y) <int64[1] i = {0}, int64[1] r = {-1}, int64[1] six = {6}> {\n"
        "  s = Shape(x)\n  a = Gather<axis=0>(s, i)\n  t = Concat<axis=0>(a, r, six)\n  y = Reshape(x, t)\n}"
    )
    assert found.ops == ["Reshape"]


def test_transposes_that_only_move_axes_of_size_1_are_skipped(simplify):
    found = simplify(
        HEAD + "(float[n,1,6] x) => (float[n,2,3] y, float[1,n,6] z) <int64[3] t = {0,2,3}> {\n"
        "  a = Transpose<perm=[0,2,1]>(x)\n  y = Reshape(a, t)\n  z = Transpose<perm=[1,0,2]>(x)\n}"
    )
    assert found.ops == ["Reshape", "Transpose"]


def test_such_a_transpose_behind_a_reshape_is_one_with_it(simplify):
    found = simplify(
        HEAD
        + "(float[n,6] x) => (float[2,1,n,3] y, float[n,1,6] z) <int64[1] one = {1}, int64[4] t = {1,2,-1,3}> {\n"
        "  a = Unsqueeze(x, one)\n  z = Transpose<perm=[0,1,2]>(a)\n"
        "  b = Reshape(x, t)\n  y = Transpose<perm=[1,0,2,3]>(b)\n}"
    )
    assert sorted(found.ops) == ["Reshape", "Unsqueeze"]


def test_a_transpose_of_two_ones_is_nothing(simplify):
    found = simplify(
        HEAD + "(float[1,n,1] x) => (float[1,n,1] y) {\n"
        "  a = Transpose<perm=[2,1,0]>(x)\n  y = Relu(a)\n}"
    )
    assert found.ops == ["Relu"]


def test_a_transpose_that_may_move_numbers_stays(simplify):
    found = simplify(
        HEAD + "(float[n,m,2] x) => (float[k] y) <int64[1] t = {-1}> {\n"
        "  a = Transpose<perm=[1,0,2]>(x)\n  y = Reshape(a, t)\n}"
    )
    assert found.ops == ["Transpose", "Reshape"]
