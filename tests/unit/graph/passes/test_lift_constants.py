HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_equal_constants_become_one_initializer(simplify):
    found = simplify(
        HEAD + "(float[n,2] x) => (float[n,2] y) {\n"
        "  a = Constant<value_floats = [1.0, 2.0]>()\n  b = Constant<value = float[2] {1., 2.}>()\n"
        "  c = Add(x, a)\n  y = Mul(c, b)\n}"
    )
    assert found.ops == ["Add", "Mul"]
    assert len(found.proto.graph.initializer) == 1


def test_a_text_stays(simplify):
    found = simplify(
        HEAD
        + '(float[n] x) => (string[1] y) { a = Constant<value_strings = ["a"]>()  y = Identity(a) }'
    )
    assert found.ops[-1] in {"Constant", "Identity"}


def test_a_constant_inside_a_branch_moves_out(simplify):
    found = simplify(
        HEAD + "(bool c, float[n] x) => (float[n] y) {\n"
        "  y = If (c) <then_branch = t () => (float[n] a) { k = Constant<value_float = 2.0>()  a = Mul(x, k) },"
        " else_branch = e () => (float[n] b) { k2 = Constant<value_float = 2.0>()  b = Add(x, k2) }>\n}"
    )
    assert found.ops == ["If", "Mul", "Add"]
    assert len(found.proto.graph.initializer) == 1
