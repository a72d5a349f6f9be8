import numpy as np
import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
NUMBERS = np.random.default_rng(0)
WEIGHTS = {
    "w": NUMBERS.standard_normal((1, 12, 2)).astype(np.float32),
    "r": NUMBERS.standard_normal((1, 12, 3)).astype(np.float32),
}


@pytest.mark.parametrize("filling", [0.0, 1.0])
def test_only_states_that_are_zero_go(simplify, filling):
    found = simplify(
        HEAD
        + "(float[t,n,2] x) => (float[t,1,n,3] y) <float[1,12,2] w, float[1,12,3] r, int64[1] one = {1},"
        " int64[1] three = {3}> {\n"
        "  s = Shape<start=1, end=2>(x)\n  k = Concat<axis=0>(one, s, three)\n"
        "  h = ConstantOfShape<value = float[1] {FILLING}>(k)\n  y = LSTM<hidden_size=3>(x, w, r, , , h, h)\n}".replace(
            "FILLING", str(filling)
        ),
        weights=WEIGHTS,
    )
    assert (found.ops == ["LSTM"]) == (filling == 0)
