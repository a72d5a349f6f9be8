HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_an_expansion_before_a_broadcast_goes(simplify):
    found = simplify(
        HEAD
        + "(float[n,4] x, float[1,4] z) => (float[n,4] y) { s = Shape(x)  a = Expand(z, s)  y = Add(a, x) }"
    )
    assert found.ops == ["Add"]


def test_one_that_makes_the_output_larger_stays(simplify):
    found = simplify(
        HEAD
        + "(float[n,4] x, float[1,4] z) => (float[n,4] y) { s = Shape(x)  a = Expand(z, s)  y = Add(a, z) }"
    )
    assert found.ops == ["Shape", "Expand", "Add"]


def test_two_sizes_that_may_differ_stay(simplify):
    # m may be 1 where n is not: then the expansion decides the size.
    found = simplify(
        HEAD
        + "(float[n,4] x, float[m,4] z) => (float[k,4] y) { s = Shape(x)  a = Expand(z, s)  y = Mul(a, z) }"
    )
    assert "Expand" in found.ops
