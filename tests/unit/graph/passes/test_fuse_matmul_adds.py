import numpy as np

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
W = {"w": np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)}
B = {"b": np.arange(5, dtype=np.float32)}


def test_matrices_become_a_gemm(simplify):
    found = simplify(
        HEAD
        + "(float[n,4] x) => (float[n,5] y) <float[4,5] w, float[5] b> { a = MatMul(x, w)  y = Add(b, a) }",
        weights=W | B,
    )
    assert found.ops == ["Gemm"]


def test_three_dimensions_alone_stay(simplify):
    found = simplify(
        HEAD
        + "(float[n,2,4] x) => (float[n,2,5] y) <float[4,5] w, float[5] b> { a = MatMul(x, w)  y = Add(a, b) }",
        weights=W | B,
    )
    assert found.ops == ["MatMul", "Add"]


def test_a_bias_that_makes_the_product_larger_stays(simplify):
    found = simplify(
        HEAD
        + "(float[1,4] x) => (float[3,5] y) <float[4,5] w, float[3,5] c> { a = MatMul(x, w)  y = Add(a, c) }",
        weights=W | {"c": np.ones((3, 5), np.float32)},
    )
    assert found.ops == ["MatMul", "Add"]


def test_integers_stay(simplify):
    found = simplify(
        HEAD
        + "(int32[n,4] x) => (int32[n,5] y) <int32[4,5] w, int32[5] b> { a = MatMul(x, w)  y = Add(a, b) }",
        weights={"w": np.ones((4, 5), np.int32), "b": np.ones(5, np.int32)},
    )
    assert found.ops == ["MatMul", "Add"]
