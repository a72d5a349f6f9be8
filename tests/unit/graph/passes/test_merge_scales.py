import numpy as np

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_one_side_is_scaled_by_both(simplify):
    found = simplify(
        HEAD + "(float[n,2,4] x, float[n,4,3] z) => (float[n,2,3] y) <float s, float t> {\n"
        "  a = Mul(x, s)\n  b = Mul(t, z)\n  y = MatMul(a, b)\n}",
        weights={"s": np.float32(0.5), "t": np.float32(0.25)},
    )
    assert found.ops == ["Mul", "MatMul"]


def test_half_precision_keeps_both(simplify):
    found = simplify(
        HEAD
        + "(float16[n,2,4] x, float16[n,4,3] z) => (float16[n,2,3] y) <float16 s, float16 t> {\n"
        "  a = Mul(x, s)\n  b = Mul(t, z)\n  y = MatMul(a, b)\n}",
        weights={"s": np.float16(0.5), "t": np.float16(0.25)},
    )
    assert found.ops == ["Mul", "Mul", "MatMul"]


def test_a_product_that_would_vanish_stays(simplify):
    found = simplify(
        HEAD + "(float[n,2,4] x, float[n,4,3] z) => (float[n,2,3] y) <float s, float t> {\n"
        "  a = Mul(x, s)\n  b = Mul(t, z)\n  y = MatMul(a, b)\n}",
        weights={"s": np.float32(1e-30), "t": np.float32(1e-30)},
    )
    assert found.ops == ["Mul", "Mul", "MatMul"]
