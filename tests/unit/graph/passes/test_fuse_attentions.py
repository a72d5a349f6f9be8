import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
SCALE = {"s": np.float32(0.35)}


@pytest.mark.parametrize("mask", ["", "float[n,1,3,3] m, "])
def test_attention_is_one_node(simplify, mask):
    add = "b = Add(a, m)" if mask else "b = Identity(a)"
    found = simplify(
        HEAD
        + f"({mask}float[n,2,3,4] q, float[n,2,3,4] k, float[n,2,3,4] v) => (float[n,2,3,4] y) <float s> {{\n"
        "  t = Transpose<perm=[0,1,3,2]>(k)\n  qs = Mul(q, s)\n  ks = Mul(t, s)\n  a = MatMul(qs, ks)\n"
        f"  {add}\n  p = Softmax<axis=-1>(b)\n  y = MatMul(p, v)\n}}",
        weights=SCALE,
        profile="modern",
    )
    assert found.ops == ["Attention"]


def test_probabilities_that_others_read_stay(simplify):
    found = simplify(
        HEAD
        + "(float[n,2,3,4] q, float[n,2,4,3] k, float[n,2,3,4] v) => (float[n,2,3,4] y, float[n,2,3,3] p) {\n"
        "  a = MatMul(q, k)\n  p = Softmax<axis=-1>(a)\n  y = MatMul(p, v)\n}",
        profile="modern",
    )
    assert "Softmax" in found.ops
