HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_an_end_that_is_the_size_of_the_axis_is_the_end(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[m,4] y) <int64[1] i = {0}, int64[1] one = {1}> {\n"
        "  s = Shape(x)\n  e = Gather<axis=0>(s, i)\n  y = Slice(x, one, e, i)\n}"
    )
    assert found.ops == ["Slice"]


def test_an_end_of_another_tensor_stays(simplify):
    found = simplify(
        HEAD
        + "(float[n,4] x, float[m,4] z) => (float[k,4] y) <int64[1] i = {0}, int64[1] one = {1}> {\n"
        "  s = Shape(z)\n  e = Gather<axis=0>(s, i)\n  y = Slice(x, one, e, i)\n}"
    )
    assert found.ops == ["Shape", "Gather", "Slice"]
