import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


@pytest.mark.parametrize(("condition", "op"), [(1, "Relu"), (0, "Neg")])
def test_the_branch_that_is_taken_stands_in_place(simplify, condition, op):
    found = simplify(
        HEAD + f"(float[n] x) => (float[n] y) <bool c = {{{condition}}}> {{\n"
        "  a = If (c) <then_branch = t () => (float[n] u) { u = Relu(x) },"
        " else_branch = e () => (float[n] v) <float[1] k = {2.0}> { w = Mul(x, k)  v = Neg(w) }>\n"
        "  y = Exp(a)\n}"
    )
    assert found.ops == ([op, "Exp"] if condition else ["Mul", op, "Exp"])


def test_a_condition_that_sizes_decide(simplify):
    found = simplify(
        HEAD + "(float[n,4] x) => (float[n,4] y) <int64[1] i = {1}, int64[1] four = {4}> {\n"
        "  s = Shape(x)\n  d = Gather<axis=0>(s, i)\n  c = Equal(d, four)\n"
        "  y = If (c) <then_branch = t () => (float[n,4] u) { u = Relu(x) },"
        " else_branch = e () => (float[n,4] v) { v = Neg(x) }>\n}"
    )
    assert found.ops == ["Relu"]


def test_a_condition_of_the_caller_stays(simplify):
    found = simplify(
        HEAD + "(bool c, float[n] x) => (float[n] y) {\n"
        "  y = If (c) <then_branch = t () => (float[n] u) { u = Relu(x) },"
        " else_branch = e () => (float[n] v) { v = Neg(x) }>\n}"
    )
    assert found.ops == ["If", "Relu", "Neg"]
