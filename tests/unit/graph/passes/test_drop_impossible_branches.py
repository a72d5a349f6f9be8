import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
SQUEEZED = """
  s = Shape(a)
  g = Gather<axis=0>(s, at)
  c = Equal(g, one)
  z = If(c) <
    then_branch = t () => (u) { u = Squeeze(a, one) },
    else_branch = e () => (v) { v = Identity(a) }
  >
"""


def squeezed(simplify, after, *, declared="float[n,m,k] x", weights=""):
    return simplify(
        HEAD + f"({declared}) => (float[p,q] y) "
        f"<int64[1] at = {{1}}, int64[1] one = {{1}}, int64[1] zero = {{0}}{weights}> {{\n"
        f"  a = Relu(x)\n{SQUEEZED}\n  {after}\n}}",
        sizes=(1,),
    )


@pytest.mark.parametrize(
    "after", ["y = Gemm(z, z)", "y = Transpose<perm=[1,0]>(z)", "y = Concat<axis=0>(z, z2)"]
)
def test_what_a_later_operator_takes_decides(simplify, after):
    found = squeezed(
        simplify,
        after.replace("z2", "x2"),
        declared="float[n,m,k] x, float[n,k] x2",
    )
    assert "If" not in found.ops
    assert found.rules["drop_impossible_branches"] == 1


def test_conditions_between_are_followed(simplify):
    after = """d = Shape(z)
  size = Size(d)
  two = Equal(size, number)
  no = Not(two)
  w = If(no) <
    then_branch = t2 () => (u2) { u2 = Unsqueeze(z, zero) },
    else_branch = e2 () => (v2) { v2 = Identity(z) }
  >
  b = Unsqueeze(w, zero)
  h, y3, c3 = LSTM<hidden_size=2>(b, weight, weight)
  y = Squeeze(y3, zero)"""
    found = squeezed(
        simplify,
        after,
        declared="float[n,m,2] x",
        weights=", int64 number = {2}, float[1,8,2] weight = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}",
    )
    assert "If" not in found.ops


@pytest.mark.parametrize(
    "after",
    [
        "y = Relu(z)",
        "y = ReduceSum<keepdims=0>(z, at)",
        "w = Gemm(z, z)\n  y = Relu(z)",  # nobody needs what fails
    ],
)
def test_an_if_after_which_both_can_go_on_stays(simplify, after):
    found = squeezed(simplify, after)
    assert "If" in found.ops


def test_a_model_that_always_fails_stays_as_it_is(simplify):
    text = (
        HEAD + "(float[n,m,k] x, bool[1] c) => (float[p,q] y) <int64[1] one = {1}> {\n"
        "  z = If(c) <then_branch = t () => (u) { u = Unsqueeze(x, one) }, "
        "else_branch = e () => (v) { v = Identity(x) }>\n  y = Gemm(z, z)\n}"
    )
    found = simplify(text, sizes=())
    assert "If" in found.ops
