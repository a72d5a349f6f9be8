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


def test_what_is_split_behind_is_split_before(simplify):
    found = simplify(
        HEAD
        + "(float[1,12,5,6] x) => (float[2,1,6,5,6] y) <int64[3] t = {6,2,30}, int64[5] u = {2,1,6,5,6}> {\n"
        "  a = Reshape(x, t)\n  b = Transpose<perm=[1,0,2]>(a)\n  y = Reshape(b, u)\n}"
    )
    assert found.ops == ["Reshape", "Transpose"]


def test_a_channel_shuffle_of_two_halves_needs_no_transpose(simplify):
    found = simplify(
        HEAD
        + "(float[1,12,5,6] x) => (float[1,6,5,6] y, float[1,6,5,6] z) <int64[3] t = {6,2,30}, int64[5] u = {2,-1,6,5,6}, int64 zero = {0}, int64 one = {1}> {\n"
        "  a = Reshape(x, t)\n  b = Transpose<perm=[1,0,2]>(a)\n  c = Reshape(b, u)\n"
        "  y = Gather(c, zero)\n  z = Gather(c, one)\n}"
    )
    assert found.ops == ["Reshape", "Gather", "Gather"]


def test_a_dynamic_dimension_is_split_off_before(simplify):
    found = simplify(
        HEAD
        + "(float[n,12,5] x) => (float[5,n,3,4] y) <int64[3] t = {0,12,5}, int64[4] u = {5,-1,3,4}> {\n"
        "  a = Reshape(x, t)\n  b = Transpose<perm=[2,0,1]>(a)\n  y = Reshape(b, u)\n}",
        sizes=(1, 3),
    )
    assert found.ops == ["Transpose", "Reshape"]
