import math

import numpy as np
import pytest

HEAD = '<ir_version: 10, opset_import: ["" : %d]>\nmain '
NUMBERS = {"two": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}
NAMES = "<float two, float one, float half>"


@pytest.mark.parametrize(
    "last", ["c = Mul(x, s)  y = Mul(c, half)", "c = Mul(s, half)  y = Mul(x, c)"]
)
def test_it_is_recognised_in_any_order(simplify, last):
    found = simplify(
        HEAD % 20 + f"(float[n,4] x) => (float[n,4] y) {NAMES} {{\n"
        f"  a = Div(x, two)\n  e = Erf(a)\n  s = Add(e, one)\n  {last}\n}}",
        weights=NUMBERS,
    )
    assert found.ops == ["Gelu"]


def test_an_opset_without_it_keeps_the_nodes(simplify):
    found = simplify(
        HEAD % 17 + f"(float[n,4] x) => (float[n,4] y) {NAMES} {{\n"
        "  a = Div(x, two)\n  e = Erf(a)\n  s = Add(e, one)\n  c = Mul(x, s)\n  y = Mul(c, half)\n}",
        weights=NUMBERS,
    )
    assert "Erf" in found.ops


def test_another_number_is_no_gelu(simplify):
    found = simplify(
        HEAD % 20 + f"(float[n,4] x) => (float[n,4] y) {NAMES} {{\n"
        "  a = Div(x, two)\n  e = Erf(a)\n  s = Add(e, one)\n  c = Mul(x, s)\n  y = Mul(c, half)\n}",
        weights=NUMBERS | {"two": np.float32(1.5)},
    )
    assert "Erf" in found.ops
