"""Simplification inside If, Loop and Scan."""

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_a_shape_that_a_loop_carries_is_known_inside(simplify):
    found = simplify(
        HEAD
        + "(int64 k, float[n,4] x) => (float[n,4] y) <bool t = {1}, int64[1] i = {1}, int64[2] r = {-1, 4}> {\n"
        "  y = Loop (k, t, x) <body = b (int64 it, bool c, float[p,q] v) => (bool c2, float[p,q] v2) {\n"
        "    s = Shape(v)\n    d = Gather<axis=0>(s, i)\n    w = Cast<to=1>(d)\n    u = Add(v, w)\n"
        "    v2 = Reshape(u, s)\n    c2 = Identity(t)\n  }>\n}"
    )
    assert sorted(found.ops) == ["Add", "Identity", "Loop"]


def test_a_shape_that_grows_is_not_taken_for_granted(simplify):
    found = simplify(
        HEAD
        + "(int64 k, float[n] x) => (float[m] y) <bool t = {1}> {\n"
        "  y = Loop (k, t, x) <body = b (int64 it, bool c, float[p] v) => (bool c2, float[q] v2) {\n"
        "    s = Shape(v)\n    u = Concat<axis=0>(v, v)\n    r = Reshape(u, z)\n    z2 = Identity(s)\n"
        "    v2 = Identity(r)\n    c2 = Identity(t)\n  }>\n}".replace(", z)", ", n1)").replace(
            "<bool t = {1}>", "<bool t = {1}, int64[1] n1 = {-1}>"
        )
    )
    assert "Concat" in found.ops


def test_both_branches_are_simplified_and_what_they_agree_on_is_known(simplify):
    found = simplify(
        HEAD + "(bool c, float[n,4] x) => (float[n,4] y) {\n"
        "  a = If (c) <then_branch = t () => (float[p,q] u) { i = Identity(x)  u = Relu(i) },"
        " else_branch = e () => (float[p,q] v) { j = Identity(x)  v = Neg(j) }>\n"
        "  s = Shape(x)\n  y = Reshape(a, s)\n}"
    )
    assert found.ops == ["If", "Relu", "Neg"]


def test_a_branch_that_hands_on_an_outer_value_keeps_its_identity(simplify):
    found = simplify(
        HEAD + "(bool c, float[n] x) => (float[n] y) {\n"
        "  y = If (c) <then_branch = t () => (float[n] u) { u = Identity(x) },"
        " else_branch = e () => (float[n] v) { v = Neg(x) }>\n}"
    )
    assert found.ops == ["If", "Identity", "Neg"]


def test_what_held_for_the_first_iteration_only_is_forgotten(simplify):
    """The carried vector grows; nothing that was derived from its first size may stay."""
    found = simplify(
        HEAD
        + "(int64 k, float[n] x) => (float[m] y, bool[r,2] same) <bool t = {1}, int64[1] one = {1}> {\n"
        "  s = Shape(x)\n  e = Concat<axis=0>(s, one)\n"
        "  y, same = Loop (k, t, x) <body = b (int64 it, bool c, float[p] v) =>"
        " (bool c2, float[q] v2, bool[2] d) {\n"
        "    f = Flatten(v)\n    g = Shape(f)\n    d = Equal(g, e)\n    v2 = Concat<axis=0>(v, v)\n"
        "    c2 = Identity(t)\n  }>\n}"
    )
    assert "Equal" in found.ops
