import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
WEIGHTS = {
    "heads": np.array([0, 0, 2, 4]),
    "groups": np.array([0, 0, 1, 4]),
    "flat": np.array([0, 0, 8]),
}
NAMES = "<int64[4] heads, int64[4] groups, int64[3] flat>"
INPUTS = "(float[n,t,8] q, float[n,u,{0}] k, float[n,u,{0}] v)"
MOVED = "  {0}h = Reshape({0}, {1})\n  {0}t = Transpose<perm=[0,2,1,3]>({0}h)\n"
LAST = "  o = Transpose<perm=[0,2,1,3]>(a)\n  y = Reshape(o, flat)\n}"


def model(groups="heads", width=8, attention="a = Attention<scale=0.3>(qt, kt, vt)", last=LAST):
    moved = MOVED.format("q", "heads") + MOVED.format("k", groups) + MOVED.format("v", groups)
    return (
        f"{HEAD}{INPUTS.format(width)} => (float[n,t,8] y) {NAMES} {{\n{moved}  {attention}\n{last}"
    )


@pytest.mark.parametrize(("groups", "width"), [("heads", 8), ("groups", 4)])
def test_heads_stay_side_by_side(simplify, groups, width):
    found = simplify(model(groups, width), weights=WEIGHTS, profile="modern")
    assert found.ops == ["Attention"]


def test_a_mask_is_kept(simplify):
    text = model(attention="a = Attention(qt, kt, vt, m)").replace(
        "(float[n,t,8] q", "(float[n,1,t,u] m, float[n,t,8] q"
    )
    found = simplify(text, weights=WEIGHTS, profile="modern")
    assert found.ops == ["Attention"]


def test_queries_keys_and_values_that_are_moved_together_are_split(simplify):
    found = simplify(
        f"{HEAD}(float[n,t,24] x) => (float[n,t,8] y) <int64[5] all, int64[1] zero, int64[3] flat> {{\n"
        "  h = Reshape(x, all)\n  m = Transpose<perm=[2,0,3,1,4]>(h)\n"
        "  q1, k1, v1 = Split<axis=0, num_outputs=3>(m)\n  q = Squeeze(q1, zero)\n"
        "  k = Squeeze(k1, zero)\n  v = Squeeze(v1, zero)\n  a = Attention(q, k, v)\n" + LAST,
        weights={
            "all": np.array([0, 0, 3, 2, 4]),
            "zero": np.array([0]),
            "flat": np.array([0, 0, 8]),
        },
        profile="modern",
    )
    assert found.ops == ["Split", "Attention"]


def test_a_rotation_between_is_made_of_heads_side_by_side(simplify):
    rotated = (
        "  qr = RotaryEmbedding(qt, c, s)\n  kr = RotaryEmbedding(kt, c, s)\n"
        "  a = Attention(qr, kr, vt)"
    )
    text = model(attention=rotated.strip()).replace("u,8", "t,8")
    text = text.replace("(float[n,t,8] q", "(float[n,t,2] c, float[n,t,2] s, float[n,t,8] q")
    found = simplify(text, weights=WEIGHTS, profile="modern")
    assert found.ops == ["RotaryEmbedding", "RotaryEmbedding", "Attention"]


def test_a_result_in_two_dimensions_is_reshaped_once(simplify):
    weights = WEIGHTS | {"flat": np.array([-1, 8])}
    text = (
        model().replace("float[n,t,8] y", "float[m,8] y").replace("int64[3] flat", "int64[2] flat")
    )
    found = simplify(text, weights=weights, profile="modern")
    assert found.ops == ["Attention", "Reshape"]


@pytest.mark.parametrize(
    "change",
    [
        ("o = Transpose<perm=[0,2,1,3]>(a)", "o = Transpose<perm=[0,2,3,1]>(a)"),
        ("vt = Transpose<perm=[0,2,1,3]>(vh)", "vt = Reshape(v, front)"),
    ],
)
def test_other_orders_stay(simplify, change):
    text = model().replace(*change).replace("<int64[4] heads", "<int64[4] front, int64[4] heads")
    weights = WEIGHTS | {"front": np.array([0, 2, -1, 4])}
    found = simplify(text, weights=weights, profile="modern")
    assert found.ops.count("Transpose") >= 3


def test_a_cache_of_earlier_keys_stays(simplify):
    attention = "a, pk, pv = Attention(qt, kt, vt, , ck, cv)"
    text = model(attention=attention).replace(
        "(float[n,t,8] q", "(float[n,2,p,4] ck, float[n,2,p,4] cv, float[n,t,8] q"
    )
    text = text.replace("float[n,t,8] y)", "float[n,t,8] y, float[n,2,w,4] pk, float[n,2,w,4] pv)")
    found = simplify(text, weights=WEIGHTS, profile="modern")
    assert found.ops.count("Transpose") == 4
