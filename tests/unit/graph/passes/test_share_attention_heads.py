import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
REPEATED = (
    "  {0}u = Unsqueeze({0}, two)\n  {0}e = Expand({0}u, many)\n  {0}r = Reshape({0}e, whole)\n"
)


def model(last, keys="n,2,t,4"):
    body = REPEATED.format("k") + REPEATED.format("v") + last
    return (
        f"{HEAD}(float[n,6,u,4] q, float[{keys}] k, float[{keys}] v) => (float[n,6,u,4] y)"
        f" <int64[1] two, int64[5] many, int64[4] whole, float s> {{\n{body}}}"
    )


WEIGHTS = {
    "two": np.array([2]),
    "many": np.array([1, 1, 3, 1, 1]),
    "whole": np.array([0, 6, -1, 4]),
    "s": np.float32(0.5),
}


def test_heads_are_read_before_they_are_repeated(simplify):
    found = simplify(
        model("  y = Attention<scale=0.5>(q, kr, vr)\n"), weights=WEIGHTS, profile="modern"
    )
    assert found.ops == ["Attention"]


def test_groups_are_found_in_attention_that_is_spelled_out(simplify):
    found = simplify(
        model(
            "  kt = Transpose<perm=[0,1,3,2]>(kr)\n  a = MatMul(q, kt)\n  p = Softmax<axis=-1>(a)\n"
            "  y = MatMul(p, vr)\n"
        ),
        weights=WEIGHTS,
        profile="modern",
    )
    assert found.ops == ["Attention"]


@pytest.mark.parametrize("inputs", ["q, kr, x", "q, x, vr"])
def test_groups_of_one_side_only_stay(simplify, inputs):
    found = simplify(
        f"{HEAD}(float[n,6,u,4] q, float[n,2,t,4] k, float[n,2,t,4] v, float[n,6,t,4] x)"
        " => (float[n,6,u,4] y) <int64[1] two, int64[5] many, int64[4] whole> {\n"
        + REPEATED.format("k")
        + REPEATED.format("v")
        + f"  y = Attention({inputs})\n}}",
        weights={name: one for name, one in WEIGHTS.items() if name != "s"},
        profile="modern",
    )
    assert "Expand" in found.ops


def test_tokens_that_are_repeated_are_no_heads(simplify):
    """The new axis stands behind the tokens: each token comes three times."""
    found = simplify(
        f"{HEAD}(float[n,6,u,4] q, float[n,6,2,4] k, float[n,6,2,4] v) => (float[n,6,u,4] y)"
        " <int64[1] three, int64[5] many, int64[4] whole> {\n"
        + (REPEATED.format("k") + REPEATED.format("v")).replace("two", "three")
        + "  y = Attention(q, kr, vr)\n}",
        weights={
            "three": np.array([3]),
            "many": np.array([1, 1, 1, 3, 1]),
            "whole": np.array([0, 6, 6, 4]),
        },
        profile="modern",
    )
    assert "Expand" in found.ops
