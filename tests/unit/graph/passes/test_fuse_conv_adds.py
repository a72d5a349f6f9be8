import numpy as np
import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
NUMBERS = np.random.default_rng(0)
W = {"w": NUMBERS.standard_normal((4, 3, 3, 3)).astype(np.float32)}


def bias(*shape):
    return NUMBERS.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (1,), ()])
@pytest.mark.parametrize("given", ["", ", b"])
def test_what_is_added_to_a_channel_is_its_bias(simplify, shape, given):
    sizes = f"[{','.join(map(str, shape))}]" if shape else ""
    found = simplify(
        HEAD
        + f"(float[n,3,5,5] x) => (float[n,4,3,3] y) <float[4,3,3,3] w, float[4] b, float{sizes} c> {{\n"
        f"  a = Conv(x, w{given})\n  y = Add(c, a)\n}}",
        weights=W | {"b": bias(4), "c": bias(*shape)},
    )
    assert found.ops == ["Conv"]


@pytest.mark.parametrize("shape", [(3,), (4, 3, 3), (2, 4, 1, 1)])
def test_what_is_no_number_a_channel_stays(simplify, shape):
    sizes = ",".join(map(str, shape))
    found = simplify(
        HEAD + f"(float[1,3,5,5] x) => (float[k,4,3,3] y) <float[4,3,3,3] w, float[{sizes}] c> {{\n"
        "  a = Conv(x, w)\n  y = Add(a, c)\n}",
        weights=W | {"c": bias(*shape)},
    )
    assert found.ops == ["Conv", "Add"]
