"""Audits: what is declared rightly passes, each kind of false declaration is found and placed."""

import numpy as np
import onnx
import onnx.parser
import pytest
from auditing import audit, found, parsed, run
from onnx import helper, numpy_helper

from shipway.errors import EngineError, ModelError, UsageError
from shipway.proof.audit import audit_graph
from shipway.proof.audit_fix import mend_declarations

RIGHT = {
    "names": "(float[n,4] x) => (float[n,4] y) <float[n,4] r> { r = Relu(x)  y = Abs(r) }",
    "formulas": "(float[n,4] x) => (float[m,4] y) { y = Concat<axis=0>(x, x) }",
    "no shape inside": "(float[n,4] x) => (float[n,4] y) { r = Relu(x)  y = Abs(r) }",
    "a scalar": "(float x) => (float y) { y = Relu(x) }",
    "an empty input": "(float[0,4] x) => (float[0,4] y) { y = Relu(x) }",
    "no dynamic dimension": "(float[2,4] x) => (float[2,4] y) { y = Relu(x) }",
    "a state with the batch second": (
        "(float[n,4] x) => (float[1,n,4] y) <int64[1] a = {0}> { y = Unsqueeze(x, a) }"
    ),
    "a size that depends on numbers": "(float[n] x) => (int64[1,k] y) { y = NonZero(x) }",
    "two dimensions": "(float[n,k] x) => (float[k,n] y) { y = Transpose<perm=[1,0]>(x) }",
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_right_passes(file, what):
    def formula(proto):
        if what == "formulas":
            proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "2*n"

    result = audit(file(RIGHT[what], change=formula))
    assert result.passed
    assert not result.findings
    assert result.coverage.total == len(parsed(RIGHT[what]).graph.node)


FALSE = {
    "a size that is baked in": (
        "(float[n,4] x) => (float[3,4] y) { y = Relu(x) }",
        ("error", "false-shape", "y"),
    ),
    "a name that is another size": (
        "(float[n,4] x) => (float[n,4] y) { y = Concat<axis=0>(x, x) }",
        ("error", "false-shape", "y"),
    ),
    "a rank": (
        "(float[n,4] x) => (float[n,4,1] y) { y = Relu(x) }",
        ("error", "false-shape", "y"),
    ),
    "a value inside": (
        "(float[n,4] x) => (float[n,4] y) <float[1,4] r> { r = Relu(x)  y = Abs(r) }",
        ("error", "false-shape", "r"),
    ),
    "a dtype": (
        "(float[n,4] x) => (float[n,4] y) { y = Cast<to=7>(x) }",
        ("error", "false-dtype", "y"),
    ),
    "a batch that only one size passes": (
        "(float[n,4] x) => (float[k,2] y) <int64[2] t = {6,2}> { y = Reshape(x, t) }",
        ("error", "fixed-dim", "n"),
    ),
    "a smallest size": (
        "(float[1,1,h,8] x) => (float[1,1,k,6] y) <float[1,1,3,3] w> { y = Conv(x, w) }",
        ("warning", "fails", "h"),
    ),
    "the first sample only": (
        "(float[n,4] x) => (float[4] y) <int64 i = {0}> { y = Gather<axis=0>(x, i) }",
        ("warning", "ignored-dim", "n"),
    ),
    "a sum over the samples": (
        "(float[n,4] x) => (float[1,4] y) <int64[1] i = {0}> { y = ReduceSum(x, i) }",
        ("info", "ignored-dim", "n"),
    ),
    "the first three samples": (
        (
            "(float[n,4] x) => (float[k,4] y) <int64[1] a = {0}, int64[1] b = {3}> "
            "{ y = Slice(x, a, b, a) }"
        ),
        ("warning", "fixed-dim", "y"),
    ),
    "samples that are merged": (
        "(float[n,4] x) => (float[1,k] y) <int64[2] t = {1,-1}> { y = Reshape(x, t) }",
        ("warning", "merged-dim", "y"),
    ),
    "one name for two sizes": (
        "(float[n,4] x) => (float[k,4] y, float[k,4] z) { y = Concat<axis=0>(x, x)  z = Relu(x) }",
        ("error", "one-name", "k"),
    ),
    "a name too many": (
        "(float[n,4] x) => (float[k,4] y) { y = Relu(x) }",
        ("info", "equal-names", "k"),
    ),
    "a name for a constant": (
        "(float[n,4] x) => (float[n,k] y) { y = Relu(x) }",
        ("info", "equal-names", "k"),
    ),
    "an output that is a constant": (
        (
            "(float[n,4] x) => (float[n,4] y, float[2] z) <float[2] c = {1.0,2.0}> "
            "{ y = Relu(x)  z = Abs(c) }"
        ),
        ("info", "independent", "z"),
    ),
    "two sizes that must be equal": (
        (
            "(float[n,4] x, float[m,4] z) => (float[n,4] y) <int64[1] a = {0}> "
            "{ s = Shape(x)  w = Reshape(z, s)  y = Add(x, w) }"
        ),
        ("warning", "equal-names", "n"),
    ),
}


@pytest.mark.parametrize("what", FALSE)
def test_what_is_false_is_found(file, what):
    text, expected = FALSE[what]
    weights = {"w": np.ones((1, 1, 3, 3), np.float32)} if "Conv" in text else {}
    result = audit(file(text, weights))
    assert expected in found(result)
    assert result.passed is (expected[0] != "error")


def test_a_finding_says_what_was_declared_what_came_and_where(file):
    text = "(float[n,4] x) => (float[3,4] y) { y = Relu(x) }"
    path = file(text, change=lambda proto: setattr(proto.graph.node[0], "name", "last/relu 1"))
    (finding,) = audit_graph(path).audit.findings
    assert finding.declared == "[3,4]"
    assert {one.came for one in finding.seen} == {"[0,4]", "[1,4]", "[6,4]"}
    assert (finding.place.node, finding.place.op) == ("last/relu 1", "Relu")
    assert "--write" in finding.hint
    assert "declared [3,4]; [1,4] came at n=1" in finding.message


def test_a_failure_names_the_node_and_the_sizes_that_run(file):
    text = "(float[n,4] x) => (float[k,2] y) <int64[2] t = {6,2}> { y = Reshape(x, t) }"
    path = file(text, change=lambda proto: setattr(proto.graph.node[0], "name", "view"))
    finding = next(one for one in audit(path).findings if one.kind == "fixed-dim")
    assert finding.place.node == "view"
    assert "runs at 3 only" in finding.message
    assert {one.sizes["n"] for one in finding.seen} == {1, 2, 4, 5, 6}


def test_a_shape_that_is_false_at_zero_only_is_a_warning(file):
    text = (
        "(float[n,4] x) => (float[m,4] y) <int64[1] a = {0}, int64[1] o = {1}> "
        "{ s = Shape(x)  b = Slice(s, a, o)  c = Max(b, o)  f = Slice(s, o, t)  d = Concat<axis=0>(c, f)"
        "  y = ConstantOfShape(d) }"
    )
    weights = {"t": np.array([2], np.int64)}

    def name(proto):
        proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"

    result = audit_graph(file(text, weights, name)).audit
    assert ("warning", "false-shape", "y") in found(result)
    assert result.passed


def test_a_failing_zero_is_a_note(file):
    text = "(float[1,1,h,8] x) => (float[1,1,h,8] y) <float[1,1,1,1] w> { y = Conv(x, w) }"
    result = audit_graph(file(text, {"w": np.ones((1, 1, 1, 1), np.float32)})).audit
    assert result.passed
    assert any("h=0" in note for note in result.notes)


def test_what_lies_inside_or_is_no_tensor_is_said_not_to_be_checked(file):
    text = (
        "(float[n,4] x, bool c) => (float[n,4] y) { s = SequenceConstruct(x, x)  i = SequenceLength(s)"
        "  y = If(c) <then_branch = g1 () => (float[n,4] a) { a = Relu(x) },"
        " else_branch = g2 () => (float[n,4] b) { b = Abs(x) }> }"
    )
    coverage = audit(file(text)).coverage
    reasons = {name: reason for reason, names in coverage.unchecked.items() for name in names}
    assert reasons == {
        "s": "is no tensor",
        "i": "declares no shape",
        "a": "lies inside If, Loop, Scan or a function",
        "b": "lies inside If, Loop, Scan or a function",
    }
    assert (coverage.checked, coverage.total) == (1, 5)


def test_a_false_shape_inside_a_branch_does_not_disturb(file):
    text = (
        "(float[n,4] x, bool c) => (float[n,4] y) "
        "{ y = If(c) <then_branch = g1 () => (float[1,4] a) { a = Relu(x) },"
        " else_branch = g2 () => (float[1,4] b) { b = Abs(x) }> }"
    )
    assert audit(file(text)).passed


def test_names_may_hold_anything(file):
    def change(proto):
        graph = proto.graph
        graph.input[0].name = graph.node[0].input[0] = "in put/0"
        graph.node[0].output[0] = graph.node[1].input[0] = graph.value_info[0].name = "r/e lu:0"
        graph.output[0].name = graph.node[1].output[0] = "out put"
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch size"
        graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch size"

    path = file(RIGHT["names"], change=change)
    result = audit(path, sizes={"batch size": 5})
    assert result.passed
    assert {"batch size": 5} in [dict(one) for one in result.sizes]
    assert result.coverage.checked == 2


def test_a_dimension_without_a_name_is_tried_too(file):
    def change(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")

    result = audit(file("(float[n,4] x) => (float[3,4] y) { y = Relu(x) }", change=change))
    assert ("error", "false-shape", "y") in found(result)
    assert {"x[0]": 6} in [dict(one) for one in result.sizes]


def test_an_input_size_that_follows_from_another(file):
    def change(proto):
        proto.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "2*n"

    text = (
        "(float[n,4] x, float[m,4] z) => (float[m,4] y) { c = Concat<axis=0>(x, x)  y = Add(c, z) }"
    )
    result = audit(file(text, change=change))
    assert not result.findings
    assert all(set(one) == {"n"} for one in result.sizes)


def test_an_unsorted_graph_with_a_function_and_external_data(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>\n'
        "main (float[n,64] x) => (float[1,64] y) <float[64,64] w> "
        "{ m = MatMul(x, w)  y = mine.twice(m) }\n"
        '<domain: "mine", opset_import: ["" : 20]>\n'
        "twice (a) => (b) { b = Add(a, a) }"
    )
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    audited = run(tmp_path / "m.onnx")
    assert found(audited.audit) == {("error", "false-shape", "y")}
    (tmp_path / "mended").mkdir()
    mended = mend_declarations(tmp_path / "m.onnx", audited, tmp_path / "mended" / "m.onnx")
    assert audit(mended.path).passed
    after = onnx.load(mended.path)
    assert numpy_helper.to_array(after.graph.initializer[0]).tobytes() == weight.tobytes()
    assert [function.name for function in after.functions] == ["twice"]


def test_indices_stay_within_the_table(file):
    text = "(int64[n] x) => (float[n,3] y) { y = Gather(w, x) }"
    assert audit(file(text, {"w": np.ones((4, 3), np.float32)})).passed


def test_a_model_that_runs_nowhere_is_an_error(file):
    text = "(float[n,4] x) => (float[7,3] y) <int64[2] t = {7,3}> { y = Reshape(x, t) }"
    with pytest.raises(EngineError, match="runs at no size that was tried; at n=3") as caught:
        audit(file(text))
    assert "--size n=" in caught.value.hint


def test_guesses_at_sizes_do_not_fill_the_memory(file):
    """Of 16,000 by 16,000 an input would take a gigabyte."""
    text = "(float[h,w] x) => (float[7] y) <int64[1] t = {7}> { y = Reshape(x, t) }"
    with pytest.raises(EngineError, match="runs at no size"):
        audit(file(text))


def test_a_large_fixed_size_is_no_guess(file):
    text = "(uint8[n,4096,4097] x) => (uint8[n,1,1] y) <int64[2] a = {1,2}> { y = ReduceMax(x, a) }"
    assert audit(file(text)).passed


def test_a_size_of_no_dimension_is_refused(file):
    with pytest.raises(UsageError, match="no dynamic dimension 'batch'") as caught:
        audit(file(RIGHT["names"]), sizes={"batch": 3})
    assert "n" in caught.value.hint


def test_an_input_that_numbers_cannot_be_made_for_is_refused(tmp_path):
    kind = helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, [2])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [])
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["s"], ["y"])], "g", [kind], [out]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="'s' is no tensor"):
        audit(tmp_path / "m.onnx")


def test_an_audit_is_plain_data(file):
    data = audit(file(FALSE["a size that is baked in"][0])).to_json()
    assert data["schema_version"] == 1
    assert data["passed"] is False
    assert data["counts"] == {"error": 1, "warning": 0, "info": 0}
    assert data["findings"][0]["place"]["op"] == "Relu"
    assert data["coverage"] == {"checked": 1, "total": 1, "unchecked": {}}


LOOP = (
    "(float[n,2] x, int64 trips) => (float[n,2] y, float[k,n,2] z) <bool go = {1}> {"
    "  y, z = Loop (trips, go, x) <body = b (int64 i, bool c, float[m,2] v)"
    " => (bool d, float[m,2] u, float[m,2] o) { u = Neg(v)  o = Abs(v)  d = Identity(c) }> }"
)


def test_a_loop_is_run_and_what_was_left_out_is_said(file):
    result = audit(file(LOOP))
    assert result.passed
    assert result.coverage.checked == 2
    assert any("Loop may never end" in note for note in result.notes)


def test_a_dtype_whose_shape_cannot_be_read_is_said(file):
    text = (
        "(float[n,4] x) => (float[n,4] y) <float8e4m3fn[n,4] f> "
        "{ f = Cast<to=17>(x)  y = Cast<to=1>(f) }"
    )
    result = audit(file(text))
    assert result.passed
    assert result.coverage.unchecked == {
        "has a dtype whose shape ONNX Runtime does not read": ("f",)
    }


def test_a_node_without_a_name_is_known_by_what_it_computes(file):
    text = (
        "(float[n,4] x) => (float[k,2] y) <int64[2] t = {6,2}> { r = Relu(x)  y = Reshape(r, t) }"
    )
    finding = next(one for one in audit(file(text)).findings if one.kind == "fixed-dim")
    assert (finding.place.node, finding.place.op) == ("y", "Reshape")
