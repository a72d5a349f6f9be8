"""For every simplification rule a small model in which it fires, and which is wrong where it is."""

import math

import numpy as np

NUMBERS = np.random.default_rng(0)


def random(*shape):
    return NUMBERS.standard_normal(shape).astype(np.float32)


BATCHNORM = {"s": random(4), "b": random(4), "m": random(4), "v": np.full(4, 0.5, np.float32)}
CONV = {"w": random(4, 3, 3, 3)}

MODELS = {
    "lift_constants": (
        (
            "(float[n,4] x) => (float[n,4] y) "
            "{ c = Constant<value = float[4] {1.0,2.0,3.0,4.0}>()  y = Mul(x, c) }"
        ),
        {},
    ),
    "inline_branches": (
        (
            "(float[n] x) => (float[n] y) <bool c = {1}> {"
            "  a = If (c) <then_branch = t () => (float[n] u) { u = Neg(x) },"
            " else_branch = e () => (float[n] v) { v = Abs(x) }>  y = Tanh(a) }"
        ),
        {},
    ),
    "resolve_cast_likes": (
        "(int32[n] x, float[n] z) => (float[n] y) { a = CastLike(x, z)  y = Add(a, z) }",
        {},
    ),
    "unpack_sequences": (
        (
            "(float[n] x, float[n] z) => (float[n] y) <int64 i = {-1}> "
            "{ s = SequenceConstruct(x, z)  a = SequenceAt(s, i)  y = Neg(a) }"
        ),
        {},
    ),
    "fold_shapes": (
        (
            "(float[n,4] x) => (float[n,4] y) <int64[1] i = {1}> "
            "{ s = Shape(x)  d = Gather<axis=0>(s, i)  f = Cast<to=1>(d)  y = Mul(x, f) }"
        ),
        {},
    ),
    "remove_identities": ("(float[n] x) => (float[n] y) { a = Identity(x)  y = Neg(a) }", {}),
    "remove_neutral_arithmetic": (
        "(float[n] x) => (float[n] y) <float one> { a = Mul(x, one)  y = Neg(a) }",
        {"one": np.float32(1)},
    ),
    "remove_unread_nodes": (
        "(float[n] x) => (float[n] y) { a = Neg(x)  u = Exp(a)  y = Tanh(a) }",
        {},
    ),
    "drop_expands": (
        (
            "(float[n,4] x, float[1,4] z) => (float[n,4] y) "
            "{ s = Shape(x)  a = Expand(z, s)  y = Add(a, x) }"
        ),
        {},
    ),
    "drop_zero_states": (
        (
            "(float[t,n,2] x) => (float[t,1,n,3] y)"
            " <float[1,12,2] w, float[1,12,3] r, int64[1] one = {1}, int64[1] three = {3}> {"
            "  s = Shape<start=1, end=2>(x)  k = Concat<axis=0>(one, s, three)"
            "  h = ConstantOfShape<value = float[1] {0.0}>(k)"
            "  y = LSTM<hidden_size=3>(x, w, r, , , h, h) }"
        ),
        {"w": random(1, 12, 2), "r": random(1, 12, 3)},
    ),
    "fuse_conv_adds": (
        (
            "(float[n,3,5,5] x) => (float[n,4,3,3] y) <float[4,3,3,3] w, float[4,1,1] c> "
            "{ a = Conv(x, w)  y = Add(a, c) }"
        ),
        CONV | {"c": random(4, 1, 1)},
    ),
    "fuse_conv_batchnorms": (
        (
            "(float[n,3,5,5] x) => (float[n,4,3,3] y)"
            " <float[4,3,3,3] w, float[4] s, float[4] b, float[4] m, float[4] v> "
            "{ a = Conv(x, w)  y = BatchNormalization(a, s, b, m, v) }"
        ),
        CONV | BATCHNORM,
    ),
    "fuse_gelus": (
        (
            "(float[n,4] x) => (float[n,4] y) <float two, float one, float half> {"
            "  a = Div(x, two)  e = Erf(a)  s = Add(e, one)  c = Mul(x, s)  y = Mul(c, half) }"
        ),
        {"two": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    "fuse_matmul_adds": (
        (
            "(float[n,4] x) => (float[n,3] y) <float[4,3] w, float[3] b> "
            "{ m = MatMul(x, w)  y = Add(m, b) }"
        ),
        {"w": random(4, 3), "b": random(3)},
    ),
    "fuse_reciprocals": (
        "(float[n] x, float[n] z) => (float[n] y) { i = Reciprocal(z)  y = Mul(x, i) }",
        {},
    ),
    "fuse_rms_normalizations": (
        (
            "(float[n,3,4] x) => (float[n,3,4] y)"
            " <float two, float tiny, float[4] w, int64[1] axis = {-1}> {"
            "  p = Pow(x, two)  m = ReduceMean(p, axis)  a = Add(m, tiny)  r = Sqrt(a)"
            "  i = Reciprocal(r)  d = Mul(x, i)  y = Mul(w, d) }"
        ),
        {"two": np.float32(2), "tiny": np.float32(1e-5), "w": random(4)},
    ),
    "fuse_attentions": (
        (
            "(float[n,2,3,4] q, float[n,2,4,3] k, float[n,2,3,4] v) => (float[n,2,3,4] y) "
            "{ a = MatMul(q, k)  p = Softmax<axis=-1>(a)  y = MatMul(p, v) }"
        ),
        {},
    ),
    "merge_reshaped_transposes": (
        (
            "(float[n,8,5,6] x) => (float[n,8,6,5] y) <int64[3] t = {-1,5,6}, int64[4] u = {-1,8,6,5}> "
            "{ a = Reshape(x, t)  b = Transpose<perm=[0,2,1]>(a)  y = Reshape(b, u) }"
        ),
        {},
    ),
    "merge_scales": (
        (
            "(float[n,2,4] x, float[n,4,3] z) => (float[n,2,3] y) <float s, float t> "
            "{ a = Mul(x, s)  b = Mul(t, z)  y = MatMul(a, b) }"
        ),
        {"s": np.float32(0.5), "t": np.float32(0.25)},
    ),
    "merge_transposes": (
        (
            "(float[n,2,3] x) => (float[3,n,2] y) "
            "{ a = Transpose<perm=[1,0,2]>(x)  y = Transpose<perm=[2,1,0]>(a) }"
        ),
        {},
    ),
    "retarget_reshapes": (
        (
            "(float[n,4,6] x) => (float[n,24] y) <int64[1] i = {0}, int64[1] k = {24}> "
            "{ s = Shape(x)  a = Gather<axis=0>(s, i)  t = Concat<axis=0>(a, k)  y = Reshape(x, t) }"
        ),
        {},
    ),
    "retarget_slices": (
        (
            "(float[n,4] x) => (float[m,4] y) <int64[1] i = {0}, int64[1] one = {1}> "
            "{ s = Shape(x)  e = Gather<axis=0>(s, i)  y = Slice(x, one, e, i) }"
        ),
        {},
    ),
    "split_slices": (
        (
            "(float[n,6] x) => (float[n,2] a, float[n,4] b)"
            " <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i6 = {6}> "
            "{ c = Slice(x, i0, i2, i1)  d = Slice(x, i2, i6, i1)  a = Neg(c)  b = Neg(d) }"
        ),
        {},
    ),
    "fold_constants": (
        (
            "(float[n,3] x) => (float[n,4] y) <float[4,3] w> "
            "{ t = Transpose<perm=[1,0]>(w)  y = MatMul(x, t) }"
        ),
        {"w": random(4, 3)},
    ),
    "fold_rounded_constants": (
        "(float[n,3] x) => (float[n,3] y) <float[3] w> { t = Exp(w)  y = Mul(x, t) }",
        {"w": random(3)},
    ),
    "merge_equal_nodes": (
        "(float[n] x) => (float[n] y) { a = Exp(x)  b = Exp(x)  c = Neg(b)  y = Div(a, c) }",
        {},
    ),
    "merge_equal_numbers": (
        (
            "(float[n,m] x, float[n,m] z) => (int64[1] y) <int64[1] i = {0}> "
            "{ s = Shape(x)  a = Gather<axis=0>(s, i)  t = Shape(z)  b = Gather<axis=0>(t, i)"
            "  y = Add(a, b) }"
        ),
        {},
    ),
    "flatten_rows": (
        (
            "(float[n,5,8] x) => (float[n,5,8] y) "
            "<float[8,8] w1, float[8] b1, float[8,8] w2, float[8] b2, float[8,8] w3, float[8] b3> {"
            "  a = MatMul(x, w1)  b = Add(a, b1)  c = Tanh(b)  d = MatMul(c, w2)  e = Add(d, b2)"
            "  f = Tanh(e)  g = MatMul(f, w3)  h = Add(g, b3)  y = Tanh(h) }"
        ),
        {f"w{i}": random(8, 8) for i in (1, 2, 3)} | {f"b{i}": random(8) for i in (1, 2, 3)},
    ),
    "fuse_pads": (
        (
            "(float[n,3,6,7] x) => (float[n,4,h,v] y)"
            " <float[4,3,3,3] w, int64[8] p = {0,0,1,2,0,0,3,0}> { a = Pad(x, p)  y = Conv(a, w) }"
        ),
        CONV,
    ),
    "retarget_gathers": (
        (
            "(float[n,4,5] x) => (float[n,5] y) <int64 i = {1}> "
            "{ t = Transpose<perm=[1,0,2]>(x)  y = Gather<axis=0>(t, i) }"
        ),
        {},
    ),
    "merge_slices": (
        (
            "(float[6,n] x) => (float[2,m] y)"
            " <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4},"
            " int64[1] last = {-1}> "
            "{ a = Slice(x, one, four, zero, two)  y = Slice(a, zero, two, last) }"
        ),
        {},
    ),
    "move_transposes": (
        (
            "(float[n,4,5,6] x) => (float[n,a,b,c] y) <float[4,4] v> {"
            "  t = Transpose<perm=[0,2,3,1]>(x)  m = MatMul(t, v)  a = Transpose<perm=[0,3,1,2]>(m)"
            "  b = Relu(a)  u = Transpose<perm=[0,2,3,1]>(b)  y = MatMul(u, v) }"
        ),
        {"v": random(4, 4)},
    ),
    "drop_impossible_branches": (
        (
            "(float[n,m,k] x) => (float[k,n] y) <int64[1] at = {1}, int64[1] one = {1}> {"
            "  a = Relu(x)  s = Shape(a)  g = Gather<axis=0>(s, at)  c = Equal(g, one)"
            "  z = If(c) <then_branch = t () => (u) { u = Squeeze(a, one) },"
            " else_branch = e () => (v) { v = Identity(a) }>  y = Transpose<perm=[1,0]>(z) }"
        ),
        {},
    ),
}

HEADS = "qh = Reshape(q, heads)  qt = Transpose<perm=[0,2,1,3]>(qh)  kh = Reshape(k, heads)  "
HEAD_WEIGHTS = {"heads": np.array([0, 0, 2, 4]), "flat": np.array([0, 0, 8])}
HEAD_NAMES = "int64[4] heads, int64[3] flat"
HIDING = {"zero": np.float32(0), "low": np.float32(-1e4)}

MODELS |= {
    "merge_casts": (
        "(float[n,4] x) => (float[n,4] y) { a = Cast<to=11>(x)  b = Cast<to=1>(a)  y = Abs(b) }",
        {},
    ),
    "fuse_guarded_attentions": (
        (
            "(bool[n,1,t,t] keep, float[n,2,t,4] q, float[n,2,t,4] k, float[n,2,t,4] v)"
            " => (float[n,2,t,4] y) <float zero, float low> {"
            "  m = Where(keep, zero, low)  kt = Transpose<perm=[0,1,3,2]>(k)  a = MatMul(q, kt)"
            "  b = Add(a, m)  p = Softmax<axis=-1>(b)"
            "  bad = IsNaN(p)  g = Where(bad, zero, p)  y = MatMul(g, v) }"
        ),
        HIDING,
    ),
    "share_attention_heads": (
        (
            "(float[n,6,u,4] q, float[n,2,t,4] k, float[n,2,t,4] v) => (float[n,6,u,4] y)"
            " <int64[1] two, int64[5] many, int64[4] whole> {"
            "  ku = Unsqueeze(k, two)  ke = Expand(ku, many)  kr = Reshape(ke, whole)"
            "  vu = Unsqueeze(v, two)  ve = Expand(vu, many)  vr = Reshape(ve, whole)"
            "  y = Attention<scale=0.5>(q, kr, vr) }"
        ),
        {
            "two": np.array([2]),
            "many": np.array([1, 1, 3, 1, 1]),
            "whole": np.array([0, 6, -1, 4]),
        },
    ),
    "flatten_attentions": (
        (
            "(float[n,t,8] q, float[n,u,8] k, float[n,u,8] v) => (float[n,t,8] y)"
            f" <{HEAD_NAMES}> {{ {HEADS} kt = Transpose<perm=[0,2,1,3]>(kh)"
            "  vh = Reshape(v, heads)  vt = Transpose<perm=[0,2,1,3]>(vh)"
            "  a = Attention<scale=0.3>(qt, kt, vt)"
            "  o = Transpose<perm=[0,2,1,3]>(a)  y = Reshape(o, flat) }"
        ),
        HEAD_WEIGHTS,
    ),
    "fuse_rotary_embeddings": (
        (
            "(float[n,2,t,8] x, float[n,t,4] f) => (float[n,2,t,8] y) <int64[1] one = {1}> {"
            "  e = Concat<axis=-1>(f, f)  c = Cos(e)  s = Sin(e)  cc = Unsqueeze(c, one)"
            "  ss = Unsqueeze(s, one)  a, b = Split<axis=-1, num_outputs=2>(x)  m = Neg(b)"
            "  r = Concat<axis=-1>(m, a)  p = Mul(x, cc)  q = Mul(ss, r)  y = Add(p, q) }"
        ),
        {},
    ),
    "fuse_multi_head_attentions": (
        (
            "(float[n,t,8] q, float[n,u,8] k, float[n,u,8] v) => (float[n,t,8] y)"
            f" <{HEAD_NAMES}> {{ {HEADS} kt = Transpose<perm=[0,2,3,1]>(kh)"
            "  vh = Reshape(v, heads)  vt = Transpose<perm=[0,2,1,3]>(vh)  a = MatMul(qt, kt)"
            "  p = Softmax<axis=-1>(a)  o = MatMul(p, vt)  ot = Transpose<perm=[0,2,1,3]>(o)"
            "  y = Reshape(ot, flat) }"
        ),
        HEAD_WEIGHTS,
    ),
    "fuse_guarded_multi_head_attentions": (
        (
            "(bool[n,1,t,t] keep, float[n,t,8] q, float[n,t,8] k, float[n,t,8] v)"
            f" => (float[n,t,8] y) <{HEAD_NAMES}, float zero, float low> {{ {HEADS}"
            "  kt = Transpose<perm=[0,2,3,1]>(kh)  vh = Reshape(v, heads)"
            "  vt = Transpose<perm=[0,2,1,3]>(vh)  m = Where(keep, zero, low)  a = MatMul(qt, kt)"
            "  b = Add(a, m)  p = Softmax<axis=-1>(b)  bad = IsNaN(p)  g = Where(bad, zero, p)"
            "  o = MatMul(g, vt)  ot = Transpose<perm=[0,2,1,3]>(o)  y = Reshape(ot, flat) }"
        ),
        HEAD_WEIGHTS | HIDING,
    ),
    "narrow_indices": (
        ("(float[n,4] x) => (float[n,2] y) <int64[2] i = {0, 2}> { y = Gather<axis=1>(x, i) }"),
        {},
    ),
    "replace_einsums": (
        (
            "(float[n,3] x, float[3,4] z) => (float[n,4] y) "
            '{ y = Einsum<equation = "ij,jk->ik">(x, z) }'
        ),
        {},
    ),
}

PROFILES = {
    "fuse_multi_head_attentions": ("onnxruntime", 17),
    "fuse_guarded_multi_head_attentions": ("onnxruntime", 17),
    "narrow_indices": ("ascend", 17),
    "replace_einsums": ("ascend", 17),
}
"""The profile a rule belongs to, and an opset it is for; "modern" and 23 for the others."""

SIZES = {"drop_impossible_branches": [{"n": 2, "m": 1, "k": 3}]}
"""Sizes at which a model runs that runs at no usual ones."""
