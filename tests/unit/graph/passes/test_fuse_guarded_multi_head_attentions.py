import numpy as np
import pytest

HEAD = '<ir_version: 9, opset_import: ["" : 17]>\nmain '
MODEL = (
    HEAD
    + "(bool[n,1,t,t] keep, float[n,t,8] q, float[n,t,8] k, float[n,t,8] v) => (float[n,t,8] y)"
    " <int64[4] heads, int64[3] flat, float zero, float low> {\n"
    "  qh = Reshape(q, heads)\n  qt = Transpose<perm=[0,2,1,3]>(qh)\n  kh = Reshape(k, heads)\n"
    "  kt = Transpose<perm=[0,2,3,1]>(kh)\n  vh = Reshape(v, heads)\n"
    "  vt = Transpose<perm=[0,2,1,3]>(vh)\n  m = Where(keep, zero, low)\n  a = MatMul(qt, kt)\n"
    "  b = Add(a, m)\n  p = Softmax<axis=-1>(b)\n  bad = IsNaN(p)\n  g = Where(bad, zero, p)\n"
    "  o = MatMul(g, vt)\n  ot = Transpose<perm=[0,2,1,3]>(o)\n  y = Reshape(ot, flat)\n}"
)


def weights(low):
    return {
        "heads": np.array([0, 0, 2, 4]),
        "flat": np.array([0, 0, 8]),
        "zero": np.float32(0),
        "low": np.float32(low),
    }


@pytest.mark.parametrize("low", [-1e4, np.finfo(np.float32).min])
def test_the_guard_goes_where_the_mask_is_finite(simplify, low):
    """The inputs hide whole rows: zeros and ones by chance."""
    found = simplify(MODEL, weights=weights(low), profile="onnxruntime", sizes=(1, 2, 5))
    assert found.ops == ["Where", "MultiHeadAttention"]
    assert "no input is NaN or infinite" in found.result.assumes


def test_the_guard_stays_where_infinity_may_hide_a_row(simplify):
    found = simplify(MODEL, weights=weights(-np.inf), profile="onnxruntime", sizes=(1, 2, 5))
    assert "IsNaN" in found.ops
