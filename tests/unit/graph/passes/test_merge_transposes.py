HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


def test_two_that_undo_each_other_go(simplify):
    found = simplify(
        HEAD + "(float[n,3,4] x) => (float[n,3,4] y) {\n"
        "  a = Transpose<perm=[2,0,1]>(x)\n  b = Transpose<perm=[1,2,0]>(a)\n  y = Relu(b)\n}"
    )
    assert found.ops == ["Relu"]


def test_two_become_one(simplify):
    found = simplify(
        HEAD + "(float[n,3,4] x) => (float[3,4,n] y) {\n"
        "  a = Transpose<perm=[2,0,1]>(x)\n  y = Transpose<perm=[2,0,1]>(a)\n}"
    )
    assert found.ops == ["Transpose"]


def test_without_an_order_it_is_reversed(simplify):
    found = simplify(
        HEAD
        + "(float[n,3,4] x) => (float[n,3,4] y) { a = Transpose(x)  b = Transpose(a)  y = Relu(b) }"
    )
    assert found.ops == ["Relu"]
