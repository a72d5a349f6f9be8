import numpy as np

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_it_divides(simplify):
    found = simplify(
        HEAD + "(float[n,4] x, float[n,1] z) => (float[n,4] y) {\n"
        "  e = Exp(z)\n  r = Reciprocal(e)\n  y = Mul(x, r)\n}"
    )
    assert found.ops == ["Exp", "Div"]


def test_one_by_y_is_a_reciprocal(simplify):
    found = simplify(
        HEAD + "(float[n,4] x, float[n,1] z) => (float[n,4] y) <float one> {\n"
        "  e = Exp(z)\n  r = Div(one, e)\n  y = Mul(r, x)\n}",
        weights={"one": np.float32(1)},
    )
    assert found.ops == ["Exp", "Div"]


def test_a_reciprocal_that_others_read_stays(simplify):
    found = simplify(
        HEAD + "(float[n,4] x, float[n,1] z) => (float[n,4] y, float[n,1] r) {\n"
        "  e = Exp(z)\n  r = Reciprocal(e)\n  y = Mul(x, r)\n}"
    )
    assert found.ops == ["Exp", "Reciprocal", "Mul"]
