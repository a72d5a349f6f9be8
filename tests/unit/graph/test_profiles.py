"""What each profile writes, and what it never does."""

import numpy as np
import pytest

from shipway.graph.passes.catalogue import PROFILES

ROTATED = (
    '<ir_version: 11, opset_import: ["" : 23]>\n'
    "main (float[n,2,t,4] x, float[n,t,2] f, float[n,2,t,4] k) => (float[n,2,t,4] y)"
    " <int64[1] one, float[4] w> {\n"
    "  e = Concat<axis=-1>(f, f)\n  c = Cos(e)\n  s = Sin(e)\n  cc = Unsqueeze(c, one)\n"
    "  ss = Unsqueeze(s, one)\n  a, b = Split<axis=-1, num_outputs=2>(x)\n  m = Neg(b)\n"
    "  r = Concat<axis=-1>(m, a)\n  p = Mul(x, cc)\n  q = Mul(r, ss)\n  z = Add(p, q)\n"
    "  kt = Transpose<perm=[0,1,3,2]>(k)\n  g = MatMul(z, kt)\n  h = Softmax<axis=-1>(g)\n"
    "  y = MatMul(h, k)\n}"
)
WEIGHTS = {"one": np.array([1]), "w": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("profile", "written"),
    [
        ("portable", set()),
        ("modern", {"RotaryEmbedding", "Attention"}),
        ("onnxruntime", {"RotaryEmbedding", "Attention"}),
        ("openvino", set()),
        ("tensorrt", {"RotaryEmbedding"}),
        ("ascend", set()),
    ],
)
def test_a_profile_writes_what_its_engine_does_well_with(simplify, profile, written):
    found = simplify(ROTATED, weights=WEIGHTS, profile=profile)
    assert set(found.ops) & {"RotaryEmbedding", "Attention"} == written


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"onnxruntime"}))
def test_only_onnx_runtime_gets_operators_of_its_own(profile):
    names = {rule.name for rule in PROFILES[profile]}
    assert names.isdisjoint({"fuse_multi_head_attentions", "fuse_guarded_multi_head_attentions"})


@pytest.mark.parametrize("rule", PROFILES["ascend"], ids=lambda rule: rule.name)
def test_ascend_writes_nothing_newer_than_atc_reads(rule):
    assert rule.opset <= 18


QUANTIZED = (
    '<ir_version: 9, opset_import: ["" : 17]>\n'
    "main (float[n,3,4] x) => (float[n,3,4] y) <float s, int8 z, float[4,4] w, float[4] b> {\n"
    "  xq = QuantizeLinear(x, s, z)\n  xd = DequantizeLinear(xq, s, z)\n"
    "  wq = QuantizeLinear(w, s, z)\n  wd = DequantizeLinear(wq, s, z)\n"
    "  m = MatMul(xd, wd)\n  a = Add(m, b)\n  r = Relu(a)\n"
    "  rq = QuantizeLinear(r, s, z)\n  rd = DequantizeLinear(rq, s, z)\n"
    "  m2 = MatMul(rd, wd)\n  y = Add(m2, b)\n}"
)


def test_tensorrt_keeps_quantization_beside_what_is_quantized(simplify):
    found = simplify(
        QUANTIZED,
        weights={
            "s": np.float32(0.05),
            "z": np.int8(0),
            "w": np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4),
            "b": np.ones(4, np.float32),
        },
        profile="tensorrt",
    )
    assert found.result.changes == ()


def test_tensorrt_runs_rows_where_they_are(simplify):
    """Others flatten them: a Reshape would come between DequantizeLinear and MatMul."""
    text = (
        '<ir_version: 9, opset_import: ["" : 17]>\n'
        "main (float[n,3,4] x) => (float[n,3,4] y) <float[4,4] w, float[4] b> {\n"
        "  m = MatMul(x, w)\n  a = Add(m, b)\n  r = Relu(a)\n  m2 = MatMul(r, w)\n"
        "  a2 = Add(m2, b)\n  r2 = Relu(a2)\n  m3 = MatMul(r2, w)\n  y = Add(m3, b)\n}"
    )
    weights = {"w": np.eye(4, dtype=np.float32), "b": np.ones(4, np.float32)}
    assert "Gemm" in simplify(text, weights=weights).ops
    assert "Gemm" not in simplify(text, weights=weights, profile="tensorrt").ops
