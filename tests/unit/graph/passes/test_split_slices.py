import pytest

HEAD = '<ir_version: 10, opset_import: ["" : %d]>\nmain '
BODY = (
    "(float[n,6] x) => (float[n,2] a, float[n,3] b, float[n,1] c)"
    " <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i5 = {5}, int64[1] e = {-1}, int64[1] m = {1000}>"
)


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_pieces_of_one_axis_become_a_split(simplify, opset):
    found = simplify(
        HEAD % opset + BODY + "{\n"
        "  c0 = Slice(x, i5, m, i1)\n  b0 = Slice(x, i2, i5, i1)\n  a0 = Slice(x, i0, i2, i1)\n"
        "  a = Relu(a0)\n  b = Relu(b0)\n  c = Relu(c0)\n}"
    )
    assert found.ops == ["Split", "Relu", "Relu", "Relu"]


def test_pieces_that_overlap_stay(simplify):
    found = simplify(
        HEAD
        % 20
        + "(float[n,6] x) => (float[n,4] a, float[n,4] b) <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i4 = {4}, int64[1] i2 = {2}, int64[1] m = {6}> {\n"
        "  a = Slice(x, i0, i4, i1)\n  b = Slice(x, i2, m, i1)\n}"
    )
    assert found.ops == ["Slice", "Slice"]


def test_one_piece_stays_a_slice(simplify):
    found = simplify(
        HEAD % 20
        + "(float[n,6] x) => (float[n,2] a) <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}> { a = Slice(x, i0, i2, i1) }"
    )
    assert found.ops == ["Slice"]
