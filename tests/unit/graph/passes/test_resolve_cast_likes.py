HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_it_casts_to_the_type_that_is_known(simplify):
    found = simplify(
        HEAD + "(int32[n] x, float[n] z) => (float[n] y) { a = CastLike(x, z)  y = Add(a, z) }"
    )
    assert found.ops == ["Cast", "Add"]


def test_a_constant_is_folded_through_it(simplify):
    found = simplify(
        HEAD
        + "(float[n] z) => (float[n] y) <int64[1] one = {1}> { a = CastLike(one, z)  y = Add(a, z) }"
    )
    assert found.ops == ["Add"]
