"""Constants are folded as far as the file does not grow."""

import numpy as np

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_a_chain_of_slices_of_a_weight_is_folded(simplify):
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    found = simplify(
        HEAD
        + "(float[n,32] x) => (float[n,64] y) <float[64,64] w, int64[1] i0 = {0}, int64[1] i32 = {32}> {\n"
        "  a = Slice(w, i0, i32, i0)\n  b = Cast<to=11>(a)\n  c = Cast<to=1>(b)\n  y = MatMul(x, c)\n}",
        weights={"w": weight},
    )
    assert found.ops == ["MatMul"]
    (folded,) = found.proto.graph.initializer
    np.testing.assert_array_equal(onnx_array(folded), weight[:32])


def onnx_array(tensor):
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def test_what_would_make_the_file_large_stays(simplify):
    found = simplify(
        HEAD + "(float[1] x) => (float[1000,1000] y) <int64[2] s = {1000, 1000}> {\n"
        "  a = ConstantOfShape<value = float[1] {2.}>(s)\n  y = Add(x, a)\n}"
    )
    assert found.ops == ["ConstantOfShape", "Add"]


def test_a_large_transposed_weight_is_computed_when_it_is_saved(simplify):
    weight = np.random.default_rng(0).standard_normal((600, 700)).astype(np.float32)
    found = simplify(
        HEAD + "(float[n,700] x) => (float[n,600] y) <float[600,700] w> {\n"
        "  t = Transpose<perm=[1,0]>(w)\n  y = MatMul(x, t)\n}",
        weights={"w": weight},
    )
    assert found.ops == ["MatMul"]
    np.testing.assert_array_equal(onnx_array(found.proto.graph.initializer[0]), weight.T)


def test_numbers_that_an_engine_computes_otherwise_stay(simplify):
    found = simplify(
        HEAD + "(int32[n] x) => (int32[n] y) <float[2] c> {\n"
        "  a = Cast<to=6>(c)\n  b = ReduceMax<keepdims=1>(a)\n  y = Add(x, b)\n}",
        weights={"c": np.array([np.nan, 3e12], np.float32)},
    )
    assert "Cast" in found.ops
