HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_sizes_that_are_known_whatever_the_inputs(simplify):
    found = simplify(
        HEAD
        + "(float[n,4,6] x) => (float[n,24] y) <int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] n1 = {-1}> {\n"
        "  s = Shape(x)\n  a = Gather<axis=0>(s, i1)\n  b = Gather<axis=0>(s, i2)\n  c = Mul(a, b)\n"
        "  d = Concat<axis=0>(n1, c)\n  y = Reshape(x, d)\n}"
    )
    assert found.ops == ["Reshape"]
    assert found.rules["fold_shapes"] >= 1


def test_sizes_that_are_not_known_stay(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (int64[1] y) <int64[1] i = {0}> {\n"
        "  s = Shape(x)\n  a = Gather<axis=0>(s, i)\n  y = Add(a, a)\n}"
    )
    assert found.ops == ["Shape", "Gather", "Add"]


def test_the_same_size_computed_twice_is_computed_once(simplify):
    found = simplify(
        HEAD + "(float[n,m] x, float[n,m] z) => (int64[1] y) <int64[1] i = {0}> {\n"
        "  s = Shape(x)\n  a = Gather<axis=0>(s, i)\n  t = Shape(z)\n  b = Gather<axis=0>(t, i)\n"
        "  y = Add(a, b)\n}"
    )
    assert found.ops == ["Shape", "Gather", "Add"]
    assert "merge_equal_numbers" in found.rules
