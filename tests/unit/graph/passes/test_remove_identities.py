import pytest

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '


@pytest.mark.parametrize(
    "body",
    [
        "(float[n,4] x) => (float[n,4] y) { a = Identity(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { a = Cast<to=1>(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { a = Dropout(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { a = Transpose<perm=[0,1]>(x)  y = Relu(a) }",
        "(float[n] x) => (float[n] y) { a = Transpose(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { a = Concat<axis=1>(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { a = Max(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { s = Shape(x)  a = Reshape(x, s)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { s = Shape(x)  a = Expand(x, s)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) { a = Flatten(x)  y = Relu(a) }",
        "(float[n,4] x) => (float[n,4] y) <int64[4] p = {0,0,0,0}> { a = Pad(x, p)  y = Relu(a) }",
        (
            "(float[n,4] x) => (float[n,4] y) <int64[1] s = {0}, int64[1] e = {9223372036854775807}> "
            "{ a = Slice(x, s, e, s)  y = Relu(a) }"
        ),
    ],
)
def test_what_hands_on_its_input_goes(simplify, body):
    assert simplify(HEAD + body).ops == ["Relu"]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("(float[n,4] x) => (float[n,4] y) { a = Cast<to=10>(x)  y = Cast<to=1>(a) }", "Cast"),
        ("(float[n,4] x) => (float[4,n] y) { y = Transpose<perm=[1,0]>(x) }", "Transpose"),
        (
            (
                "(float[n,4] x) => (float[n,4] y) <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {1}> "
                "{ y = Slice(x, s, e, a, s) }"
            ),
            "Slice",
        ),
        ("(float[n,4] x, float[4,4] m) => (float[k,4] y) { y = Concat<axis=0>(x, m) }", "Concat"),
    ],
)
def test_what_changes_anything_stays(simplify, body, kept):
    assert kept in simplify(HEAD + body).ops


def test_dropout_in_training_stays(simplify):
    import onnx_ir as ir

    from shipway.graph.simplify import simplify_graph

    model = ir.from_onnx_text(
        HEAD
        + "(float[n] x) => (float[n] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }"
    )
    assert simplify_graph(model).changes == ()
