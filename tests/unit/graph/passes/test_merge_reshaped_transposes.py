HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_merged_dimensions_are_transposed_apart(simplify):
    found = simplify(
        HEAD
        + "(float[n,8,5,6] x) => (float[n,8,6,5] y) <int64[3] t = {-1,5,6}, int64[4] u = {-1,8,6,5}> {\n"
        "  a = Reshape(x, t)\n  b = Transpose<perm=[0,2,1]>(a)\n  y = Reshape(b, u)\n}"
    )
    assert found.ops == ["Transpose"]


def test_a_dimension_cut_in_pieces_is_left(simplify):
    found = simplify(
        HEAD
        + "(float[n,8,5] x) => (float[n,4,10] y) <int64[3] t = {-1,4,10}, int64[3] u = {-1,4,10}> {\n"
        "  a = Reshape(x, t)\n  b = Transpose<perm=[0,2,1]>(a)\n  y = Reshape(b, u)\n}"
    )
    assert found.ops == ["Reshape", "Transpose", "Reshape"]


def test_what_others_read_stays(simplify):
    found = simplify(
        HEAD
        + "(float[n,8,5,6] x) => (float[n,8,6,5] y, float[k,6,5] z) <int64[3] t = {-1,5,6}, int64[4] u = {-1,8,6,5}> {\n"
        "  a = Reshape(x, t)\n  z = Transpose<perm=[0,2,1]>(a)\n  y = Reshape(z, u)\n}"
    )
    assert found.ops == ["Reshape", "Transpose", "Reshape"]
