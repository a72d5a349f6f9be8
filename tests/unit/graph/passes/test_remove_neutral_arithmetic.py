import numpy as np
import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


@pytest.mark.parametrize(
    ("op", "operand"),
    [
        ("Mul(x, c)", np.ones(4, np.float32)),
        ("Mul(c, x)", np.ones((), np.float32)),
        ("Div(x, c)", np.ones(1, np.float32)),
        ("Sub(x, c)", np.zeros(4, np.float32)),
        ("Add(x, c)", np.full(4, -0.0, np.float32)),
        ("Pow(x, c)", np.ones((), np.float32)),
    ],
)
def test_neutral_operands_go(simplify, op, operand):
    sizes = f"[{','.join(map(str, operand.shape))}]" if operand.ndim else ""
    body = f"(float[n,4] x) => (float[n,4] y) <float{sizes} c> {{ a = {op}  y = Relu(a) }}"
    assert simplify(HEAD + body, weights={"c": operand}).ops == ["Relu"]


@pytest.mark.parametrize(
    ("op", "operand"),
    [
        ("Add(x, c)", np.zeros(4, np.float32)),  # -0.0 + 0.0 is 0.0
        ("Div(c, x)", np.ones(4, np.float32)),
        ("Sub(c, x)", np.zeros(4, np.float32)),
        ("Mul(x, c)", np.array([1, 1, 1, 2], np.float32)),
        ("Mul(x, c)", np.ones((2, 1, 4), np.float32)),  # it broadcasts
    ],
)
def test_others_stay(simplify, op, operand):
    sizes = ",".join(map(str, operand.shape))
    body = f"(float[n,4] x) => (float y) <float[{sizes}] c> {{ a = {op}  y = ReduceSum<keepdims=0>(a) }}"
    assert op[:3] in simplify(HEAD + body, weights={"c": operand}).ops


def test_ones_made_of_a_shape_count_as_well(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,4] y) {\n"
        "  s = Shape(x)\n  o = ConstantOfShape<value = float[1] {1.}>(s)\n  a = Mul(x, o)\n  y = Relu(a)\n}"
    )
    assert found.ops == ["Relu"]
