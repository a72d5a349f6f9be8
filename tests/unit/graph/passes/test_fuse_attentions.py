import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
SCALE = {"s": np.float32(0.35)}
LOWEST = np.finfo(np.float32).min
CAUSAL = np.where(np.tri(3, dtype=bool), 0, -np.inf).astype(np.float32)


def model(scores, *, masks="", weights="float s", heads=2):
    return (
        f"{HEAD}({masks}float[n,2,3,4] q, float[n,{heads},3,4] k, float[n,{heads},3,4] v)"
        f" => (float[n,2,3,4] y) <{weights}> {{\n{scores}"
        "  p = Softmax<axis=-1>(b)\n  y = MatMul(p, v)\n}"
    )


PRODUCT = "  t = Transpose<perm=[0,1,3,2]>(k)\n  qs = Mul(q, s)\n  a = MatMul(qs, t)\n"
PLAIN = PRODUCT.replace("qs = Mul(q, s)\n", "qs = Identity(q)\n")


def masked(mask):
    return PLAIN + f"  b = Add(a, {mask})\n"


def test_attention_is_one_node(simplify):
    found = simplify(
        model(
            "  t = Transpose<perm=[0,1,3,2]>(k)\n  qs = Mul(q, s)\n  ks = Mul(t, s)\n"
            "  a = MatMul(qs, ks)\n  b = Div(a, s)\n"
        ),
        weights=SCALE,
        profile="modern",
    )
    assert found.ops == ["Attention"]
    assert found.result.assumes == ("no dimension is 0",)


def test_keys_that_come_transposed_are_turned_back(simplify):
    found = simplify(
        HEAD + "(float[n,2,3,4] q, float[n,2,4,3] k, float[n,2,3,4] v) => (float[n,2,3,4] y) {\n"
        "  a = MatMul(q, k)\n  p = Softmax<axis=-1>(a)\n  y = MatMul(p, v)\n}",
        profile="modern",
    )
    assert found.ops == ["Transpose", "Attention"]


def test_keys_that_torch_transposes_by_batch_are_read_before(simplify):
    found = simplify(
        f"{HEAD}(float[n,2,t,4] q, float[n,2,t,4] k, float[n,2,t,4] v) => (float[n,2,t,4] y)"
        " <int64[1] minus, int64[1] two, int64[1] four> {\n"
        "  n = Shape<start=0, end=1>(k)\n  t = Shape<start=2, end=3>(k)\n"
        "  flat = Concat<axis=0>(minus, t, four)\n  apart = Concat<axis=0>(n, two, four, t)\n"
        "  kf = Reshape(k, flat)\n  kt = Transpose<perm=[0,2,1]>(kf)\n  ka = Reshape(kt, apart)\n"
        "  a = MatMul(q, ka)\n  p = Softmax<axis=-1>(a)\n  y = MatMul(p, v)\n}",
        weights={"minus": np.array([-1]), "two": np.array([2]), "four": np.array([4])},
        profile="modern",
    )
    assert found.ops == ["Attention"]


@pytest.mark.parametrize("shape", ["n,1,3,3", "n,2,3,3", "1,1,3,3", "3,3", "1,3,3"])
@pytest.mark.parametrize("low", [-1e4, LOWEST])
def test_a_mask_of_numbers_is_kept_and_hidden_rows_too(simplify, shape, low):
    """The inputs hide whole rows: zeros and ones by chance."""
    found = simplify(
        model(
            "  m = Where(keep, zero, low)\n" + masked("m"),
            masks=f"bool[{shape}] keep, ",
            weights="float zero, float low",
        ),
        weights={"zero": np.float32(0), "low": np.float32(low)},
        profile="modern",
    )
    assert found.ops == ["Where", "Attention"]


def test_a_mask_of_keys_gets_a_row_for_each_query(simplify):
    found = simplify(
        f"{HEAD}(bool[n,1,1,t] keep, float[n,2,u,4] q, float[n,2,t,4] k, float[n,2,t,4] v)"
        " => (float[n,2,u,4] y) <float s, float zero, float low> {\n"
        f"  m = Where(keep, zero, low)\n{PRODUCT}"
        "  b = Add(m, a)\n  p = Softmax<axis=-1>(b)\n  y = MatMul(p, v)\n}",
        weights=SCALE | {"zero": np.float32(0), "low": np.float32(LOWEST)},
        profile="modern",
    )
    assert found.ops == ["Where", "Shape", "Concat", "Expand", "Attention"]


def test_a_mask_behind_movements_is_kept(simplify):
    found = simplify(
        model(
            "  w = Where(keep, zero, low)\n  m = Unsqueeze(w, one)\n" + masked("m"),
            masks="bool[n,3,3] keep, ",
            weights="float zero, float low, int64[1] one",
        ),
        weights={"zero": np.float32(0), "low": np.float32(LOWEST), "one": np.array([1])},
        profile="modern",
    )
    assert found.ops == ["Where", "Unsqueeze", "Attention"]


def test_a_constant_mask_that_leaves_something_of_each_row_is_kept(simplify):
    found = simplify(
        model(masked("m"), weights="float[3,3] m"), weights={"m": CAUSAL}, profile="modern"
    )
    assert found.ops == ["Attention"]


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 3)])
def test_a_constant_mask_that_hides_a_row_stays(simplify, rows):
    mask = CAUSAL.copy()
    mask[rows] = -np.inf
    found = simplify(
        model(masked("m"), weights="float[3,3] m"), weights={"m": mask}, profile="modern"
    )
    assert "Softmax" in found.ops


def test_a_mask_that_may_hide_rows_by_infinity_stays(simplify):
    """Spelled out, such a row is NaN; the operator makes zeros of it."""
    found = simplify(
        model(
            "  m = Where(keep, zero, low)\n" + masked("m"),
            masks="bool[n,1,3,3] keep, ",
            weights="float zero, float low",
        ),
        weights={"zero": np.float32(0), "low": np.float32(-np.inf)},
        profile="modern",
    )
    assert "Softmax" in found.ops


def test_a_mask_of_the_caller_stays(simplify):
    found = simplify(
        model(PRODUCT + "  b = Add(a, m)\n", masks="float[n,1,3,3] m, "),
        weights=SCALE,
        profile="modern",
    )
    assert "Softmax" in found.ops


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_a_scale_that_has_no_root_stays(simplify, scale):
    found = simplify(
        model(PRODUCT + "  b = Identity(a)\n"), weights={"s": np.float32(scale)}, profile="modern"
    )
    assert "Softmax" in found.ops


def test_probabilities_that_others_read_stay(simplify):
    found = simplify(
        HEAD
        + "(float[n,2,3,4] q, float[n,2,4,3] k, float[n,2,3,4] v) => (float[n,2,3,4] y, float[n,2,3,3] p) {\n"
        "  a = MatMul(q, k)\n  p = Softmax<axis=-1>(a)\n  y = MatMul(p, v)\n}",
        profile="modern",
    )
    assert "Softmax" in found.ops


def test_a_scale_that_is_folded_later_is_taken_in(simplify):
    found = simplify(
        model(
            "  r = Sqrt(s)\n  t = Transpose<perm=[0,1,3,2]>(k)\n  qs = Mul(q, r)\n"
            "  ks = Mul(t, r)\n  b = MatMul(qs, ks)\n"
        ),
        weights=SCALE,
        profile="modern",
    )
    assert found.ops == ["Attention"]


def test_heads_that_nobody_can_count_are_as_many_where_they_are_split_alike(simplify):
    """Width and number of heads are known when the model runs; both are the same for all three."""
    split = "  {0}h = Reshape({0}, target)\n  {0}t = Transpose<perm=[0,2,1,3]>({0}h)\n"
    found = simplify(
        f"{HEAD}(float[2,t,w] q, float[2,t,w] k, float[2,t,w] v, float[r] x) => (float[2,h,t,4] y)"
        " <int64[1] two, int64[2] rest> {\n"
        "  t = Shape<start=1, end=2>(q)\n  target = Concat<axis=0>(two, t, rest)\n"
        + "".join(split.format(name) for name in "qkv")
        + "  z = Transpose<perm=[0,1,3,2]>(kt)\n  a = MatMul(qt, z)\n  p = Softmax<axis=-1>(a)\n"
        "  y = MatMul(p, vt)\n}",
        weights={"two": np.array([2]), "rest": np.array([-1, 4])},
        profile="modern",
        sizes=(4, 8),
    )
    assert "Attention" in found.ops
