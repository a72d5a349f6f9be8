import numpy as np
import pytest

HEAD = '<ir_version: 11, opset_import: ["" : 23]>\nmain '
LOWEST = np.finfo(np.float32).min
INPUTS = "(bool[n,1,t,t] keep, float[n,2,t,4] q, float[n,2,t,4] k, float[n,2,t,4] v)"
SCORES = (
    "  m = Where(keep, zero, low)\n  kt = Transpose<perm=[0,1,3,2]>(k)\n  a = MatMul(q, kt)\n"
    "  b = Add(a, m)\n  p = Softmax<axis=-1>(b)\n"
)
GUARD = "  bad = IsNaN(p)\n  g = Where(bad, zero, p)\n  y = MatMul(g, v)\n"


def model(body, outputs="float[n,2,t,4] y"):
    return f"{HEAD}{INPUTS} => ({outputs}) <float zero, float low> {{\n{body}}}"


def weights(low):
    return {"zero": np.float32(0), "low": np.float32(low)}


@pytest.mark.parametrize("low", [-np.inf, LOWEST, -1e9])
def test_hidden_rows_stay_what_the_guard_made_of_them(simplify, low):
    """The inputs hide whole rows: zeros and ones by chance."""
    found = simplify(model(SCORES + GUARD), weights=weights(low), profile="modern", sizes=(1, 2, 5))
    assert found.ops == ["Where", "Attention"]
    assert found.result.assumes == ("no input is NaN or infinite", "no dimension is 0")


@pytest.mark.parametrize(
    "change",
    [
        ("Where(bad, zero, p)", "Where(bad, low, p)"),  # NaN becomes another number
        ("Where(bad, zero, p)", "Where(bad, p, zero)"),  # the other way round
        ("IsNaN(p)", "IsNaN(b)"),  # of something else
    ],
)
def test_another_guard_stays(simplify, change):
    found = simplify(
        model(SCORES + GUARD.replace(*change)), weights=weights(-1e4), profile="modern"
    )
    assert "Softmax" in found.ops


def test_probabilities_that_are_an_output_stay(simplify):
    outputs = "float[n,2,t,4] y, float[n,2,t,t] p"
    found = simplify(model(SCORES + GUARD, outputs), weights=weights(-1e4), profile="modern")
    assert "Softmax" in found.ops


def test_a_skipped_rule_is_not_used(simplify):
    found = simplify(
        model(SCORES + GUARD),
        weights=weights(-np.inf),
        profile="modern",
        skip=["fuse_guarded_attentions"],
    )
    assert "Softmax" in found.ops
