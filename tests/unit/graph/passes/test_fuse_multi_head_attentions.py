import numpy as np
import pytest

HEAD = '<ir_version: 9, opset_import: ["" : 17]>\nmain '
WEIGHTS = {"heads": np.array([0, 0, 2, 4]), "flat": np.array([0, 0, 8]), "s": np.float32(0.3)}
INPUTS = "float[n,t,8] q, float[n,u,8] k, float[n,u,8] v"
NAMES = "<int64[4] heads, int64[3] flat, float s>"
MOVED = (
    "  qh = Reshape(q, heads)\n  qt = Transpose<perm=[0,2,1,3]>(qh)\n  kh = Reshape(k, heads)\n"
    "  kt = Transpose<perm=[0,2,3,1]>(kh)\n  vh = Reshape(v, heads)\n"
    "  vt = Transpose<perm=[0,2,1,3]>(vh)\n  qs = Mul(qt, s)\n  a = MatMul(qs, kt)\n"
)
LAST = "  o = MatMul(p, vt)\n  ot = Transpose<perm=[0,2,1,3]>(o)\n  y = Reshape(ot, flat)\n}"
PLAIN = "  p = Softmax<axis=-1>(a)\n"


def model(scores=PLAIN, inputs="", last=LAST):
    return f"{HEAD}({inputs}{INPUTS}) => (float[n,t,8] y) {NAMES} {{\n{MOVED}{scores}{last}"


def test_attention_is_one_node_of_onnx_runtime(simplify):
    found = simplify(model(), weights=WEIGHTS, profile="onnxruntime")
    assert found.ops == ["MultiHeadAttention"]
    assert {one.domain: one.version for one in found.proto.opset_import} == {
        "": 17,
        "com.microsoft": 1,
    }


@pytest.mark.parametrize("profile", ["portable", "modern", "openvino", "tensorrt", "ascend"])
def test_other_profiles_keep_to_standard_operators(simplify, profile):
    found = simplify(model(), weights=WEIGHTS, profile=profile)
    assert "MultiHeadAttention" not in found.ops
    assert [one.domain for one in found.proto.opset_import] == [""]


def test_any_mask_is_kept(simplify):
    scores = "  b = Add(m, a)\n  p = Softmax<axis=-1>(b)\n"
    found = simplify(model(scores, "float[n,1,t,u] m, "), weights=WEIGHTS, profile="onnxruntime")
    assert found.ops == ["MultiHeadAttention"]


def test_rows_that_infinity_hides_stay_nan(simplify, session, tmp_path):
    import onnx

    scores = "  m = Where(keep, zero, low)\n  b = Add(a, m)\n  p = Softmax<axis=-1>(b)\n"
    text = model(scores, "bool[n,1,t,u] keep, ").replace(
        "float s>", "float s, float zero, float low>"
    )
    weights = WEIGHTS | {"zero": np.float32(0), "low": np.float32(-np.inf)}
    found = simplify(text, weights=weights, profile="onnxruntime")
    assert found.ops == ["Where", "MultiHeadAttention"]
    onnx.save(found.proto, tmp_path / "hidden.onnx")
    numbers = np.ones((1, 2, 8), np.float32)
    keep = np.array([[[[False, False], [True, False]]]])
    feeds = {"keep": keep, "q": numbers, "k": numbers, "v": numbers}
    (output,) = session(tmp_path / "hidden.onnx").run(None, feeds)
    assert np.isnan(output[0, 0]).all()
    assert np.isfinite(output[0, 1]).all()


def test_a_newer_opset_has_its_own_operator(simplify):
    text = model().replace('"" : 17', '"" : 23').replace("ir_version: 9", "ir_version: 11")
    assert simplify(text, weights=WEIGHTS, profile="onnxruntime").ops == ["Attention"]


def test_heads_that_are_not_at_hand_side_by_side_stay(simplify):
    """Keys come with their heads in front."""
    text = model().replace("float[n,u,8] k", "float[n,2,u,4] k")
    text = text.replace("kh = Reshape(k, heads)", "kh = Transpose<perm=[0,2,1,3]>(k)")
    assert "Softmax" in simplify(text, weights=WEIGHTS, profile="onnxruntime").ops


def test_probabilities_that_are_an_output_stay(simplify):
    text = model().replace("=> (float[n,t,8] y)", "=> (float[n,t,8] y, float[n,2,t,u] p)")
    assert "Softmax" in simplify(text, weights=WEIGHTS, profile="onnxruntime").ops


def test_queries_keys_and_values_that_one_transpose_moves_stay(simplify):
    """Measured: moving each of them inside takes longer."""
    found = simplify(
        f"{HEAD}(float[n,t,24] x) => (float[n,t,8] y) <int64[5] all, int64[1] zero, int64[3] flat,"
        " int64[3] ones> {\n"
        "  h = Reshape(x, all)\n  m = Transpose<perm=[2,0,3,1,4]>(h)\n"
        "  q1, k1, v1 = Split<axis=0>(m, ones)\n  q = Squeeze(q1, zero)\n  k = Squeeze(k1, zero)\n"
        "  vt = Squeeze(v1, zero)\n  kt = Transpose<perm=[0,1,3,2]>(k)\n  a = MatMul(q, kt)\n"
        + PLAIN
        + LAST,
        weights={
            "all": np.array([0, 0, 3, 2, 4]),
            "zero": np.array([0]),
            "flat": np.array([0, 0, 8]),
            "ones": np.array([1, 1, 1]),
        },
        profile="onnxruntime",
    )
    assert "Softmax" in found.ops


@pytest.mark.parametrize(("axis", "stays"), [("", True), ("<axis=3>", False)])
def test_an_old_softmax_runs_over_more_than_the_last_dimension(simplify, axis, stays):
    scores = f"  p = Softmax{axis}(a)\n"
    text = model(scores).replace('"" : 17', '"" : 12').replace("ir_version: 9", "ir_version: 7")
    found = simplify(text, weights=WEIGHTS, profile="onnxruntime")
    assert ("Softmax" in found.ops) == stays
